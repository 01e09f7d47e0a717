"""Tests of this folder that cannot hold for a queue on a server, and why; and those that a quick run has there, too."""

# Each of these has to fail there: one that does not is struck off.
FAIL: dict[str, str] = {
    "test_enqueue_many_writes_tasks_down_while_others_are_on_their_way": "it counts the connections of a client of Redis",
    "test_a_url_will_do_for_an_async_queue_which_closes_what_it_has_opened": "it looks into a client of Redis",
    "test_to_publish_costs_one_command": "the server asks first who is interested, as a token may not be for all of them",
    "test_what_cannot_be_published": "how large a copy may be is the server's to say",
    "test_the_server_is_asked_once_a_minute_and_by_none_who_need_not_know": "it patches a clock of this process",
    "test_an_enqueue_that_could_not_ask_says_that_it_has_done_nothing": "it patches connections of this process",
}
# These would wait for ever for what they look at, or leave what breaks the next ones: each of them names it.
NOT_RUN: dict[str, str] = {
    "test_any_number_of_waits_takes_one_connection_and_no_thread": "counted(queue)",  # who waits over the connection to Redis
    "test_many_threads_wait_for_many_results": "counted(queue)",
    "test_a_wait_ends_with_its_await": "counted(queue)",
    # The handles are those of the tasks, which are on Redis:
    "test_a_wait_in_a_task_for_one_of_its_own_queue_is_told_once": "life:{kind}",
    # No chunk is on its way while the next one is made:
    "test_a_generator_that_breaks_after_a_chunk_that_is_refused_says_both": "of the 1000 tasks that were sent last",
}
# One or two of each kind: the others through a server are for runs that take their time.
QUICK = {
    "test_enqueue_writes_what_upstream_writes",
    "test_nothing_is_enqueued_when_an_argument_cannot_be_sent",
    "test_enqueue_many_says_how_far_it_came",
    "test_async_queue_writes_the_same",
    "test_an_enqueue_without_reply_is_not_sent_twice_and_says_so",
    "test_a_foreign_type_under_our_key_is_a_clear_error",
    "test_async_producers_do_the_same",
    "test_async_producers_of_many_do_the_same",
    "test_limits_are_what_was_set_last",
    "test_a_hundred_are_read_in_one_round_trip",
    "test_those_that_have_not_ended_are_waited_for",
    "test_each_interested_queue_gets_one_copy",
    "test_what_shall_begin_later_reserves_an_instant_then",
    "test_even_the_shortest_wait_looks_once",
    "test_every_answer_reaches_whoever_waits",
    "test_cancels_say_who_asked",
    "test_seconds_until_a_task_expires_are_the_server_s",
}
