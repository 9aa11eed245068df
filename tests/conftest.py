"""What all tests share: Hypothesis does not judge time, since the machines are noisy."""

from hypothesis import HealthCheck, settings

settings.register_profile("roost", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("roost")
