"""Programs that use Roost as its users do: workers, their demonstration, and batch jobs."""
