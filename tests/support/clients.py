"""The connections that a server of Redis has."""

import redis


def tracking(client: redis.Redis) -> set[str]:
    """Those that hear of changed keys, as waits for results do."""
    return {each["id"] for each in client.client_list() if "t" in each["flags"]}


def blocked(client: redis.Redis) -> set[str]:
    """Those over which somebody waits for an answer. Some may be of tests before this one."""
    return {each["id"] for each in client.client_list() if "b" in each["flags"]}
