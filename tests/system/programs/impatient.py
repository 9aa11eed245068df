"""The `roost` command, whose processes are started again without much ado when they die."""

from roost import main
from runtime.supervisor import restarts

restarts.FIRST_DELAY = 0.001
main()
