//! The one list that every store passes. An adapter runs it by `conformance!(a place of its own)`.

mod intake;
mod log;
pub(crate) mod outbox;
mod retain;
mod work;

pub(crate) use self::{intake::*, log::*, outbox::*, retain::*, work::*};

/// One test for every case of the list.
macro_rules! conformance {
    ($place:expr) => {
        $crate::conformance::conformance! { $place;
            what_was_inserted_is_there_after_reopening
            a_long_request_comes_back_whole
            the_same_key_and_request_give_the_same_job
            the_same_key_with_another_request_is_refused
            keys_of_different_owners_do_not_meet
            concurrent_inserts_under_one_key_make_one_job
            a_reusable_key_passes_on_once_its_job_is_settled
            a_budget_holds_under_concurrent_inserts
            a_budget_of_a_month_sums_its_days_and_no_others
            a_released_booking_can_be_booked_again
            the_queue_limit_holds_under_concurrent_inserts
            of_concurrent_changes_of_one_revision_one_wins
            a_change_of_an_unknown_job_is_stale
            a_change_that_breaks_a_rule_writes_nothing
            a_task_belongs_to_one_job
            a_settled_or_following_job_may_name_the_task_of_another
            a_task_that_its_job_no_longer_names_is_free
            a_replacement_makes_one_successor_however_often_it_is_asked_for
            a_replacement_is_never_paid_for_again_even_when_it_is_settled
            a_budget_holds_under_concurrent_replacements
            a_recheck_has_a_successor_again_once_the_first_is_settled
            a_successor_has_the_request_of_its_predecessor
            unknown_fields_survive_every_rewriting
            a_job_is_claimed_once_however_many_ask
            urgent_work_goes_first_then_the_longest_due
            nothing_is_claimed_before_it_is_due
            no_more_are_sent_than_may_be_in_flight
            a_job_past_its_deadline_does_not_stand_in_the_way
            expiry_settles_the_matter_at_once
            the_next_due_time_is_the_earliest
            a_callback_is_kept_with_its_body_and_known_again
            callbacks_that_race_are_judged_one_after_the_other
            a_callback_that_names_the_task_of_another_job_adopts_nothing
            a_callback_for_an_unknown_job_is_kept
            of_callbacks_for_an_unknown_job_no_more_is_kept_than_for_a_known_one
            of_callbacks_for_unknown_jobs_together_no_more_is_kept_than_their_share
            callbacks_are_listed_newest_first_and_filtered
            events_are_numbered_without_gap_in_the_order_of_changes
            events_go_on_counting_after_reopening
            events_are_filtered_by_kind_job_and_tag
            a_reader_of_events_resumes_where_it_stopped
            jobs_are_listed_newest_first_in_pages_without_repeats
            jobs_are_found_by_every_filter
            the_counts_follow_every_change_and_survive_reopening
            an_event_about_no_job_is_numbered_among_the_others
            of_events_of_one_name_one_is_logged_and_owed_however_many_come
            the_oldest_open_job_of_each_phase_is_known_whatever_ends_before_it
            a_kept_value_never_changes
            a_probe_is_taken_as_often_as_one_likes_and_leaves_nothing
            a_change_wakes_who_registered_before
            what_is_owed_is_found_by_its_lane_and_survives_reopening
            what_is_owed_for_an_event_about_no_job_tells_what_the_event_has_to_tell
            a_delivery_is_claimed_once_however_many_ask
            every_try_sends_the_bytes_of_the_first
            a_foreign_answer_changes_nothing
            a_claim_of_a_process_that_is_gone_is_given_back
            tries_are_told_in_the_log_and_in_the_timeline_of_their_job
            after_a_jump_of_the_clock_no_delivery_waits_longer_than_the_schedule
            a_used_up_delivery_stays_and_can_be_replayed
            a_sink_that_says_gone_is_disabled_and_loses_nothing
            a_sink_that_fails_for_too_long_is_disabled
            a_url_of_a_job_has_a_lane_of_its_own_and_is_never_disabled
            deliveries_are_listed_newest_first_and_filtered
            whatever_is_interrupted_every_delivery_is_told_and_ends_once
            a_job_is_forgotten_with_all_that_is_its_and_nothing_else
            a_forgotten_job_leaves_its_key_and_its_callbacks_to_others
            a_job_that_is_open_held_owed_or_changed_is_not_forgotten
            jobs_that_have_ended_are_found_oldest_first_in_parts
            the_event_log_is_swept_from_its_oldest_end_on
            bodies_of_callbacks_go_before_their_entries
            callbacks_without_a_job_give_their_share_back
            deliveries_go_once_they_are_over
            nothing_is_taken_on_after_closing
        }
    };
    ($place:expr; $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::$case(&$place).await;
        }
    )*};
}
pub(crate) use conformance;
