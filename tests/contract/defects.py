"""The defects of the inherited system, sentence by sentence, and the tests that show each of them mended.

Owns the three paragraphs and the table. May not live here: a test; those stand with the part that mends the defect and
begin their docstring with "Defect:". `test_defects` sees to it that no sentence is without a test and no test missing.
"""

from __future__ import annotations

from typing import NamedTuple

REGISTRY = """
Memory only: after a restart a heartbeat gets 404 and the service is lost until its babysitter restarts. `weight` is
dropped. `is_healthy` ignores the probe. Probes run one after another, a new client each. No authentication: anyone can
overwrite a name, capture traffic, or make the router call any host. Wall clock decides liveness. No incarnation: an old
instance's DELETE removes its successor's record. Stops only on SIGINT.
"""
ROUTER = """
Health flaps: the sync asks for healthy services only, so every 10 s it sets bad ones back to healthy. A static service
without a babysitter at port+1 turns unhealthy, so a plain vLLM or llama.cpp cannot be used. `port+1` and `http://` are
hard-wired (no TLS, no path prefix, no NAT). "Consistent" affinity is hash mod n over randomly ordered maps: it differs
per process and reshuffles on any change. `cache_type` disables affinity. One round-robin counter for all models, and
bursts (AAAB). A body that cannot be parsed (token-id prompts, multipart audio) goes to *any* model's service.
`/v1/models` is not aggregated. Errors are not in OpenAI's shape. No body limit. A 30-minute timeout is retried three
times, so generations are duplicated; 429/5xx are never retried; no back-off. A total timeout cuts long streams. One
transport error benches a service. Requests are counted twice. The client's address is neither used nor forwarded, while
a spoofed X-Forwarded-For steers affinity. Every path is open, the engines' admin paths included. `metadata.static=true`
means "never remove", so dead services stay. Health rounds overlap. No metrics, no tracing, no auth, no queue, no drain.
Non-ASCII header values are dropped. New services are invisible until the next poll. A client that leaves a stream marks
the service unhealthy. Gzip answers are decoded but still labelled gzip. A list as body gives 500. An abandoned request
runs on in the engine.
"""
BABYSITTER = """
`/health` is always 200; heartbeats go on while the child is dead. No SIGTERM handling: the engine is orphaned and
stays registered. Registration is not retried. An engine without `/models` never registers. Arguments are split on
blanks. Environment values (secrets) are logged. Fixed restart delay, a counter that never resets, no process group
(children of the engine survive). `0.0.0.0` is registered as an address. "Ready" is assumed after 30 s. No HTTP
timeouts. The engine's stdout is not drained during start-up, so it can block.
"""
PARAGRAPHS = (REGISTRY, ROUTER, BABYSITTER)


class Mended(NamedTuple):
    """Tests by file below `tests/`, and what of the sentence is left for later, "" for nothing."""

    tests: dict[str, tuple[str, ...]]
    later: str = ""

    @property
    def node_ids(self) -> list[str]:
        """As pytest names them, without parameters."""
        return [f"tests/{file}.py::{name}" for file, names in self.tests.items() for name in names]


TABLE: dict[str, Mended] = {
    # the registry
    "Memory only: after a restart a heartbeat gets 404 and the service is lost until its babysitter restarts.": Mended(
        {
            "registry/test_store": (
                "test_after_a_restart_services_and_leases_are_there_again_unconfirmed_and_their_silence_starts_anew",
            ),
            "registry/test_client": ("test_a_service_registers_itself_again_at_a_registry_that_lost_its_memory",),
            "machines/test_lease": ("test_a_404_to_a_heartbeat_registers_again_with_the_same_lease",),
            "babysitter/test_main": ("test_a_registry_that_forgot_everything_is_told_again",),
        }
    ),
    "`weight` is dropped.": Mended({"contract/test_registry_contract": ("test_the_weight_of_a_service_is_kept",)}),
    "`is_healthy` ignores the probe.": Mended({"registry/test_probes": ("test_is_healthy_follows_the_last_probe",)}),
    "Probes run one after another, a new client each.": Mended(
        {"registry/test_probes": ("test_probes_run_in_parallel_and_over_kept_connections",)}
    ),
    "No authentication: anyone can overwrite a name, capture traffic, or make the router call any host.": Mended(
        {
            "registry/test_access": ("test_nobody_writes_without_the_token",),
            "core/test_record": ("test_a_host_that_is_link_local_unspecified_oddly_spelled_or_none_is_refused",),
        }
    ),
    "Wall clock decides liveness.": Mended(
        {"registry/test_store": ("test_liveness_is_decided_by_the_monotonic_clock_whatever_the_wall_clock_does",)}
    ),
    "No incarnation: an old instance's DELETE removes its successor's record.": Mended(
        {
            "registry/test_store": ("test_an_old_instance_cannot_touch_its_successors_record",),
            "registry/test_client": ("test_a_new_instance_takes_over_and_the_old_one_stops_and_cannot_disturb_it",),
        }
    ),
    "Stops only on SIGINT.": Mended(
        {
            "registry/test_server": (
                "test_it_stops_within_seconds_on_sigterm_and_sigint_although_followers_are_connected",
            )
        }
    ),
    # the router
    "Health flaps: the sync asks for healthy services only, so every 10 s it sets bad ones back to healthy.": Mended(
        {
            "machines/test_health": ("test_health_flaps__a_registration_does_not_lift_the_verdict_of_a_probe",),
            "control/test_roster": (
                "test_health_flaps__a_sync_that_says_running_again_does_not_set_a_bad_service_back_to_healthy",
            ),
            "control/test_health_of_services": (
                "test_health_flaps__a_service_that_is_down_stays_down_while_its_registry_calls_it_healthy",
            ),
            "contract/test_foreign_registry": (
                "test_what_a_foreign_registry_says_of_health_neither_takes_a_service_out_nor_puts_one_in",
            ),
        }
    ),
    "A static service without a babysitter at port+1 turns unhealthy, "
    "so a plain vLLM or llama.cpp cannot be used.": Mended(
        {
            "control/test_probe": (
                "test_a_static_service_without_a_babysitter_turns_unhealthy__a_plain_engine_is_well_by_its_own_word",
            ),
            "control/test_health_of_services": (
                "test_a_static_service_without_a_babysitter_turns_unhealthy__it_stays_healthy_round_after_round",
            ),
            "contract/test_router_engines": (
                "test_a_plain_engine_without_a_babysitter_is_served_and_its_models_are_learned",
            ),
        }
    ),
    "`port+1` and `http://` are hard-wired (no TLS, no path prefix, no NAT).": Mended(
        {
            "core/test_record": (
                "test_the_endpoint_is_the_base_url_of_the_metadata_then_the_url_and_has_the_records_port_by_default",
            ),
            "control/test_probe": (
                "test_port_plus_1_and_http_are_hard_wired__tls_a_path_prefix_and_another_port_work",
            ),
            "contract/test_router_engines": (
                "test_an_engine_behind_tls_with_a_private_authority_and_a_path_prefix_is_reached",
            ),
        }
    ),
    '"Consistent" affinity is hash mod n over randomly ordered maps: '
    "it differs per process and reshuffles on any change.": Mended(
        {
            "policy/test_affinity": (
                "test_the_home_of_a_key_is_the_same_in_every_process",
                "test_a_service_that_joins_takes_its_share_and_moves_nothing_else",
            ),
            "contract/test_router_affinity": (
                "test_a_key_goes_to_the_same_service_in_every_process_and_leaving_moves_only_its_share",
            ),
        }
    ),
    "`cache_type` disables affinity.": Mended(
        {
            "policy/test_choose": ("test_affinity_works_within_the_cache_type",),
            "data/test_routing": ("test_size_routing_prefers_static_caches_for_long_texts_and_keeps_affinity_inside",),
            "contract/test_router_affinity": ("test_affinity_works_inside_cache_type",),
        }
    ),
    "One round-robin counter for all models, and bursts (AAAB).": Mended(
        {
            "policy/test_choose": ("test_round_robin_turns_are_counted_per_model",),
            "policy/test_spread": ("test_bursts_like_aaab_do_not_happen_where_they_can_be_avoided",),
            "data/test_routing": ("test_each_model_takes_turns_of_its_own",),
            "contract/test_router_routing": (
                "test_every_model_has_turns_of_its_own",
                "test_weighted_turns_are_spread_not_given_in_bursts",
            ),
        }
    ),
    "A body that cannot be parsed (token-id prompts, multipart audio) goes to *any* model's service.": Mended(
        {
            "wire/test_peek": (
                "test_a_body_that_is_no_json_object_is_refused_where_it_must_be_one_and_passed_on_elsewhere",
                "test_token_prompts_are_routed_by_their_model",
            ),
            "wire/test_multipart": ("test_the_model_is_found_before_and_behind_the_file",),
            "contract/test_router_routing": (
                "test_a_body_that_cannot_be_parsed_is_refused_where_a_model_is_wanted_and_passed_on_elsewhere",
                "test_a_prompt_of_token_ids_goes_to_its_models_service",
                "test_a_multipart_form_goes_to_its_models_service_byte_for_byte",
            ),
        }
    ),
    "`/v1/models` is not aggregated.": Mended(
        {
            "control/test_api": (
                "test_v1_models_is_not_aggregated__models_of_all_healthy_services_are_listed_sorted_each_once",
            ),
            "contract/test_router_contract": (
                "test_models_of_healthy_services_are_put_together_sorted_each_id_once_the_first_wins",
            ),
        }
    ),
    "Errors are not in OpenAI's shape.": Mended(
        {
            "wire/test_errors": ("test_every_error_has_openais_shape",),
            "contract/test_router_routing": (
                "test_a_model_nobody_ever_had_is_a_503_that_names_it_and_those_there_are_and_is_not_to_be_tried_again",
            ),
        }
    ),
    "No body limit.": Mended(
        {
            "data/test_limits": ("test_a_body_larger_than_the_limit_is_413_before_it_is_read",),
            "contract/test_bad_bodies": ("test_a_body_larger_than_the_limit_is_a_413_before_it_is_sent",),
        }
    ),
    "A 30-minute timeout is retried three times, so generations are duplicated; "
    "429/5xx are never retried; no back-off.": Mended(
        {
            "machines/test_exchange": ("test_a_timeout_is_never_retried_because_the_engine_may_be_generating",),
            "contract/test_router_engines": ("test_an_engine_that_is_too_slow_is_a_504_and_asked_only_once",),
            "data/test_breaks": ("test_a_503_or_429_of_an_engine_is_tried_on_another_service_and_blames_nobody",),
        },
    ),
    "A total timeout cuts long streams.": Mended(
        {"data/test_limits": ("test_a_long_stream_that_keeps_talking_is_never_cut",)}
    ),
    "One transport error benches a service.": Mended(
        {
            "machines/test_health": (
                "test_one_transport_error_benches_a_service__one_failed_request_only_asks_for_a_probe",
            ),
            "control/test_health_of_services": (
                "test_one_transport_error_benches_a_service__an_engine_that_is_well_stays",
            ),
            "data/test_breaks": ("test_one_transport_error_does_not_bench_a_service_but_max_errors_in_a_row_do",),
        }
    ),
    "Requests are counted twice.": Mended(
        {
            "data/test_breaks": ("test_each_attempt_is_counted_once",),
            "control/test_ledger": ("test_requests_are_counted_twice__a_report_that_repeats_a_count_adds_nothing",),
            "contract/test_router_contract": ("test_requests_are_counted_once_each_and_errors_apart",),
        }
    ),
    "The client's address is neither used nor forwarded, while a spoofed X-Forwarded-For steers affinity.": Mended(
        {
            "wire/test_forwarded": ("test_a_spoofed_header_from_an_untrusted_peer_is_replaced_and_pins_nothing",),
            "data/test_routing": ("test_x_forwarded_for_pins_and_grows_when_it_comes_from_a_trusted_proxy_only",),
            "contract/test_router_affinity": (
                "test_clients_behind_a_believed_proxy_keep_to_a_service_by_address_and_user_agent",
                "test_a_forwarded_address_from_anybody_else_is_replaced_and_pins_nothing",
            ),
        }
    ),
    "Every path is open, the engines' admin paths included.": Mended(
        {
            "wire/test_paths": ("test_administrative_paths_of_the_engines_are_denied",),
            "contract/test_denied_paths": (
                "test_an_administrative_path_is_a_403_that_says_how_it_is_opened",
                "test_an_administrative_path_in_disguise_is_refused_too",
            ),
        }
    ),
    '`metadata.static=true` means "never remove", so dead services stay.': Mended(
        {"control/test_roster": ("test_metadata_static_true_means_never_remove__a_dead_one_goes_like_any_other",)}
    ),
    "Health rounds overlap.": Mended(
        {
            "control/test_prober": (
                "test_health_rounds_overlap__a_slow_engine_is_looked_at_once_at_a_time_and_delays_no_other",
            )
        }
    ),
    "No metrics, no tracing, no auth, no queue, no drain.": Mended(
        {
            "contract/test_router_metrics": (
                "test_requests_through_all_workers_are_counted_once_each_with_their_times_and_tokens",
            ),
            "contract/test_router_traces": ("test_a_request_is_one_client_span_in_the_trace_of_its_client",),
            "contract/test_router_queue": (
                "test_what_is_too_much_for_an_engine_waits_in_all_workers_and_every_request_is_answered",
            ),
            "data/test_waiting": ("test_what_an_engine_cannot_take_now_waits_and_is_answered_in_order",),
            "registry/test_drain": (
                "test_a_drain_needs_no_lease_and_is_kept_over_heartbeats_until_it_is_lifted",
                "test_a_successor_takes_requests",
            ),
            "e2e/test_rolling": (
                "test_a_drained_service_finishes_what_it_has_and_gets_nothing_new_until_it_is_told_to_or_restarted",
            ),
        },
        later="authentication of clients",
    ),
    "Non-ASCII header values are dropped.": Mended(
        {"data/test_framing": ("test_non_ascii_header_values_pass_in_both_directions",)}
    ),
    "New services are invisible until the next poll.": Mended(
        {
            "registry/test_feed": ("test_a_new_follower_gets_a_snapshot_and_then_every_change_as_it_happens",),
            "control/test_discovery": (
                "test_new_services_are_invisible_until_the_next_poll__one_that_registers_is_pushed_to_the_workers",
            ),
            "contract/test_router_contract": (
                "test_a_registry_url_is_given_with_or_without_a_trailing_services_and_pushes_what_is_new",
            ),
        }
    ),
    "A client that leaves a stream marks the service unhealthy.": Mended(
        {"data/test_leaving": ("test_a_client_that_leaves_closes_the_engines_connection_at_once_and_blames_nobody",)}
    ),
    "Gzip answers are decoded but still labelled gzip.": Mended(
        {"data/test_framing": ("test_gzip_answers_stay_gzip_and_are_labelled_so",)}
    ),
    "A list as body gives 500.": Mended(
        {
            "wire/test_peek": (
                "test_a_body_that_is_no_json_object_is_refused_where_it_must_be_one_and_passed_on_elsewhere",
            ),
            "data/test_routing": ("test_a_body_that_is_no_json_object_is_a_400_on_json_paths",),
            "contract/test_bad_bodies": ("test_a_body_that_is_no_json_object_is_a_400_on_the_paths_that_want_one",),
        }
    ),
    "An abandoned request runs on in the engine.": Mended(
        {"data/test_leaving": ("test_a_client_that_leaves_closes_the_engines_connection_at_once_and_blames_nobody",)}
    ),
    # the babysitter
    "`/health` is always 200; heartbeats go on while the child is dead.": Mended(
        {
            "babysitter/test_main": (
                "test_health_is_503_with_the_reason_until_the_engine_is_ready",
                "test_kill_9_of_the_engine_takes_it_out_of_the_registry_within_2_s_and_it_comes_back_by_itself",
            ),
            "machines/test_child": ("test_a_crash_withdraws_the_registration_at_once",),
            "machines/test_lease": ("test_no_heartbeat_follows_a_withdrawal",),
        }
    ),
    "No SIGTERM handling: the engine is orphaned and stays registered.": Mended(
        {"babysitter/test_main": ("test_sigterm_deregisters_stops_the_engine_and_exits_with_0",)}
    ),
    "Registration is not retried.": Mended(
        {
            "machines/test_lease": ("test_registration_is_retried_for_ever_with_growing_delays_up_to_the_longest",),
            "babysitter/test_registration": (
                "test_a_registry_that_fails_is_told_of_once_and_tried_again_until_it_takes_it",
            ),
            "babysitter/test_main": ("test_registration_is_retried_until_the_registry_is_there",),
        }
    ),
    "An engine without `/models` never registers.": Mended(
        {
            "babysitter/test_readiness": (
                "test_an_engine_without_a_list_is_ready_with_the_configured_models_once_its_health_is_good",
            ),
            "babysitter/test_main": ("test_an_engine_without_models_is_registered_with_those_of_the_configuration",),
        }
    ),
    "Arguments are split on blanks.": Mended(
        {
            "cli/test_options": ("test_defect_arguments_are_split_on_blanks",),
            "babysitter/test_recipes": ("test_a_command_is_split_by_shell_rules_and_arguments_are_not_split_at_all",),
            "babysitter/test_main": ("test_arguments_with_blanks_reach_the_engine_as_they_are",),
        }
    ),
    "Environment values (secrets) are logged.": Mended(
        {"babysitter/test_main": ("test_environment_values_are_never_shown",)}
    ),
    "Fixed restart delay, a counter that never resets, no process group (children of the engine survive).": Mended(
        {
            "machines/test_child": (
                "test_the_delay_doubles_up_to_the_cap_and_too_many_restarts_end_in_failed",
                "test_a_stable_run_resets_the_delay_and_the_count_but_not_the_total",
            ),
            "babysitter/test_main": (
                "test_restarts_are_further_and_further_apart",
                "test_kill_9_of_the_babysitter_leaves_no_engine_process_grandchildren_in_other_sessions_included",
            ),
        }
    ),
    "`0.0.0.0` is registered as an address.": Mended(
        {
            "babysitter/test_agent": ("test_a_wildcard_is_replaced_by_the_address_that_reaches_the_registry",),
            "babysitter/test_main": ("test_a_wildcard_is_never_registered_as_an_address",),
        }
    ),
    '"Ready" is assumed after 30 s.': Mended(
        {
            "machines/test_child": ("test_ready_is_never_assumed_after_a_time",),
            "babysitter/test_readiness": ("test_an_open_port_alone_is_not_ready",),
        }
    ),
    "No HTTP timeouts.": Mended(
        {
            "babysitter/test_readiness": ("test_an_open_port_alone_is_not_ready",),
            "babysitter/test_main": ("test_a_silent_engine_holds_up_nothing",),
        }
    ),
    "The engine's stdout is not drained during start-up, so it can block.": Mended(
        {"babysitter/test_main": ("test_the_engines_stdout_is_drained_during_start_up_so_that_it_cannot_block",)}
    ),
}
