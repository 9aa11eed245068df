"""The keys of a wrangler file: which Roost reads, which it passes over, which it must refuse.

The names and their inheritance are Cloudflare's (wrangler 4). A binding that Roost cannot provide
is refused, since a script that uses it would fail later and further away; a setting of Cloudflare's
network or bundler is passed over with a warning; anything else is a spelling mistake.
"""

from typing import Final

__all__ = [
    "BINDING_SECTIONS",
    "INHERITED",
    "KNOWN",
    "KNOWN_DEV",
    "KNOWN_IN_ENV",
    "NOT_INHERITED",
    "PASSED_OVER",
    "ROOST",
]

ROOST: Final = frozenset(
    {
        "balance",
        "durability",
        "gateways",
        "grace_s",
        "history_days",
        "hosts",
        "idle_s",
        "kv_cache_bytes",
        "mailbox",
        "min_kv_ttl",
        "preload",
        "request_body",
        "slots",
        "value_bytes",
        "websockets",
    }
)
"""Keys of the `[roost]` table, and keywords of `Runtime`."""

BINDING_SECTIONS: Final = (
    "agent_memory",
    "ai",
    "ai_search",
    "ai_search_namespaces",
    "analytics_engine_datasets",
    "artifacts",
    "browser",
    "containers",
    "d1_databases",
    "data_blobs",
    "dispatch_namespaces",
    "hyperdrive",
    "images",
    "media",
    "mtls_certificates",
    "pipelines",
    "queues",
    "r2_buckets",
    "ratelimits",
    "secrets_store_secrets",
    "send_email",
    "services",
    "stream",
    "text_blobs",
    "unsafe",
    "unsafe_hello_world",
    "vectorize",
    "version_metadata",
    "vpc_networks",
    "vpc_services",
    "wasm_modules",
    "worker_loaders",
    "workflows",
)
"""Sections that put something into `env` which Roost has not. None is inherited."""

_READ_INHERITED: Final = frozenset(
    {"compatibility_date", "compatibility_flags", "limits", "main", "migrations", "name", "roost"}
)

_PASSED_OVER_INHERITED: Final = frozenset(
    {
        "account_id",
        "assets",
        "base_dir",
        "build",
        "cache",
        "compliance_region",
        "exports",
        "find_additional_modules",
        "first_party_worker",
        "jsx_factory",
        "jsx_fragment",
        "keep_names",
        "logfwdr",
        "logpush",
        "minify",
        "no_bundle",
        "observability",
        "placement",
        "preserve_file_names",
        "preview_urls",
        "previews",
        "python_modules",
        "route",
        "routes",
        "rules",
        "triggers",
        "tsconfig",
        "upload_source_maps",
        "usage_model",
        "workers_dev",
    }
)

_PASSED_OVER_NOT_INHERITED: Final = frozenset(
    {"cloudchamber", "connect", "define", "secrets", "streaming_tail_consumers", "tail_consumers"}
)

_PASSED_OVER_TOP: Final = frozenset(
    {
        "alias",
        "keep_vars",
        "legacy_env",
        "pages_build_output_dir",
        "send_metrics",
        "site",
        "type",
        "zone_id",
    }
)

INHERITED: Final = _READ_INHERITED | _PASSED_OVER_INHERITED
"""Keys that an environment takes from the top level when it does not set them."""

NOT_INHERITED: Final = (
    frozenset({"durable_objects", "kv_namespaces", "vars"})
    | frozenset(BINDING_SECTIONS)
    | _PASSED_OVER_NOT_INHERITED
)
"""Keys that every environment repeats, or does without."""

PASSED_OVER: Final = _PASSED_OVER_INHERITED | _PASSED_OVER_NOT_INHERITED | _PASSED_OVER_TOP
"""Keys that mean something to Cloudflare and nothing on one machine."""

KNOWN_IN_ENV: Final = INHERITED | NOT_INHERITED

KNOWN: Final = KNOWN_IN_ENV | _PASSED_OVER_TOP | {"$schema", "dev", "env"}

KNOWN_DEV: Final = frozenset(
    {
        "container_engine",
        "enable_containers",
        "generate_types",
        "host",
        "inspector_ip",
        "inspector_port",
        "ip",
        "local_protocol",
        "port",
        "upstream_protocol",
    }
)
"""Keys of the `[dev]` table, of which Roost reads `ip` and `port`."""
