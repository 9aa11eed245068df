"""`roost migrate` shows what migrations do to the objects, and does it; so do dev and serve."""

import json

OLD = '[[migrations]]\ntag = "v1"\nnew_sqlite_classes = ["Visitor"]\n'
GUESTS = OLD + (
    '[[migrations]]\ntag = "v2"\nrenamed_classes = [{ from = "Visitor", to = "Guest" }]\n'
)


def rename(project):
    """Give the starter's class another name, in its script and config."""
    script, config = project / "src" / "worker.py", project / "wrangler.toml"
    script.write_text(script.read_text().replace("Visitor", "Guest"))
    head = config.read_text().replace("Visitor", "Guest")
    head = head[: head.index("[[migrations]]")]
    config.write_text(head + GUESTS)


def test_the_plan_is_shown_then_carried_out_once(project, roost, start):
    assert roost("migrate", cwd=project).err == "nothing to do: nothing was ever stored in .roost\n"
    instance = start("serve", cwd=project).ready()
    first = instance.get("/?name=ada")
    assert "Visitor" not in instance.said.split("ready")[0]
    assert "in use by another Roost" in roost("migrate", "--dry-run", cwd=project).failed()
    assert instance.end() == 0
    rename(project)
    before = (project / ".roost" / "migrations.json").read_bytes()
    plan = roost("migrate", "--dry-run", cwd=project).worked()
    step = "class Visitor is renamed to Guest, with 1 object, their ids, data and alarms"
    assert plan == f"migration v1: applied\nmigration v2: to be applied\n  {step}\n"
    assert (project / ".roost" / "migrations.json").read_bytes() == before
    instance = start("serve", cwd=project)
    instance.hear(f"^migrated: {step}$")
    assert instance.ready().get("/?name=ada") != first  # it counts on
    assert instance.end() == 0
    (line,) = json.loads(roost("objects", "list", "--json", cwd=project).worked())
    assert (line["class"], line["name"]) == ("Guest", "ada")
    assert "nothing to do" in roost("migrate", "--dry-run", cwd=project).worked()
    assert roost("migrate", cwd=project).worked() == "nothing to do: all migrations are applied\n"


def test_a_deletion_by_hand_and_what_does_not_fit(project, roost, start):
    instance = start("dev", cwd=project).ready()
    instance.get("/?name=ada")
    assert instance.end() == 0
    config = project / "wrangler.toml"
    kept = config.read_text()
    config.write_text('name = "project"\nmain = "src/worker.py"\n' + OLD.replace("v1", "v0"))
    assert "migration 'v1' was applied in this data" in roost("migrate", cwd=project).failed()
    name = kept.split('name = "')[1].split('"')[0]
    gone = OLD + '[[migrations]]\ntag = "v2"\ndeleted_classes = ["Visitor"]\n'
    config.write_text(f'name = "{name}"\nmain = "src/worker.py"\n' + gone)
    assert roost("migrate", cwd=project).worked() == (
        "migrated: class Visitor is deleted, with 1 object and all they have stored\n"
    )
    assert roost("objects", "list", "--json", cwd=project).worked() == "[]\n"
