"""Programs that use Roost as its users do: a worker, its demonstration, and a batch job."""
