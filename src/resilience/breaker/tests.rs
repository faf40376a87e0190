use proptest::prelude::*;

use super::super::window::{Alignment, BreakerWindow};
use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn half() -> f64 {
    0.5
}

fn three_in_a_row() -> BreakerSettings {
    BreakerSettings {
        consecutive_failures: Some(3),
        open: ms(1_000),
        open_jitter: 0.0,
        half_open_max: Some(ms(5_000)),
        ..BreakerSettings::default()
    }
}

fn calls(breaker: &mut Breaker, count: usize, outcome: Outcome, now: u64) {
    for _ in 0..count {
        let ticket = breaker.acquire(ms(now), half).expect("let through");
        breaker.settle(ticket, CallResult::new(outcome, ms(1)), ms(now), half);
    }
}

fn tripped() -> Breaker {
    let mut breaker = Breaker::new(three_in_a_row(), ms(0));
    calls(&mut breaker, 3, Outcome::Failure, 0);
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

#[test]
fn a_longer_hint_wins_over_its_own_time() {
    let mut breaker = Breaker::new(three_in_a_row(), ms(0));
    calls(&mut breaker, 2, Outcome::Failure, 0);
    let ticket = breaker.acquire(ms(0), half).unwrap();
    let hint = Some(ms(90_000));
    let result = CallResult { hint, ..CallResult::new(Outcome::Failure, ms(1)) };
    let change = breaker.settle(ticket, result, ms(0), half).unwrap();
    assert_eq!(change.reason, Reason::ConsecutiveFailures(3));
    assert_eq!(breaker.reopens_in(ms(0)), hint);
    assert_eq!(breaker.acquire(ms(89_999), half).unwrap_err(), Outlook::AdmitsIn(ms(1)));
}

#[test]
fn what_a_caller_cuts_short_counts_only_when_it_was_slow_by_then() {
    let settings = BreakerSettings {
        slow_call: Some(ms(100)),
        slow_first_token: Some(ms(50)),
        slow_call_rate: 0.5,
        min_calls: 4,
        ..three_in_a_row()
    };
    let cut = |breaker: &mut Breaker, total: u64, now: u64| {
        let ticket = breaker.acquire(ms(now), half).expect("let through");
        let result = CallResult::new(Outcome::CutShort, ms(total));
        breaker.settle(ticket, result, ms(now), half)
    };
    let mut breaker = Breaker::new(settings, ms(0));
    (0..40).for_each(|_| assert_eq!(cut(&mut breaker, 50, 0), None));
    (0..3).for_each(|_| assert_eq!(cut(&mut breaker, 51, 0), None));
    // The first token was still to come; four slow calls of four.
    let change = cut(&mut breaker, 51, 0).unwrap();
    assert_eq!(change.reason, Reason::SlowCallRate { slow: 4, calls: 4 });
    // As a probe it gives its place back, or opens the breaker again.
    assert_eq!(cut(&mut breaker, 10, 1_000), None);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(cut(&mut breaker, 60, 1_000).unwrap().reason, Reason::ProbeFailed);
}

#[test]
fn a_probe_that_hangs_opens_it_again_and_one_that_nobody_makes_costs_nothing() {
    let mut breaker = tripped();
    let hangs = breaker.acquire(ms(1_000), half).unwrap();
    assert!(hangs.is_probe());
    assert_eq!(breaker.acquire(ms(5_999), half).unwrap_err(), Outlook::Probing);
    breaker.advance(ms(6_000), half);
    assert_eq!(breaker.reopens_in(ms(6_000)), Some(ms(2_000)), "the second time is longer");
    // What the probe says afterwards is too late.
    assert_eq!(
        breaker.settle(hangs, CallResult::new(Outcome::Success, ms(1)), ms(6_001), half),
        None
    );
    assert_eq!(breaker.state(), BreakerState::Open);

    let mut quiet = tripped();
    calls(&mut quiet, 1, Outcome::Neutral, 1_000);
    calls(&mut quiet, 1, Outcome::Success, 1_500);
    quiet.advance(ms(60_000), half);
    assert_eq!(quiet.state(), BreakerState::HalfOpen, "nothing hangs");
    // The time of one that hangs begins with it.
    let hangs = quiet.acquire(ms(60_000), half).unwrap();
    quiet.advance(ms(64_999), half);
    assert_eq!(quiet.state(), BreakerState::HalfOpen);
    quiet.advance(ms(65_000), half);
    assert_eq!(quiet.state(), BreakerState::Open);
    assert_eq!(quiet.settle(hangs, CallResult::NEUTRAL, ms(65_000), half), None);
}

#[test]
fn a_probe_is_worth_waiting_for_when_it_was_long_due_or_follows_one_that_went_well() {
    let promising = |at: u64| {
        let mut breaker = tripped();
        let probe = breaker.acquire(ms(at), half).unwrap();
        (breaker.promising_probe(ms(at)).is_some(), breaker, probe)
    };
    let (is_promising, mut breaker, probe) = promising(1_249);
    assert!(!is_promising, "it was made as soon as somebody could");
    // One that is dropped makes the next no later.
    breaker.settle(probe, CallResult::NEUTRAL, ms(3_000), half);
    let probe = breaker.acquire(ms(3_000), half).unwrap();
    assert_eq!(breaker.promising_probe(ms(3_000)), None);
    breaker.settle(probe, CallResult::new(Outcome::Success, ms(1)), ms(3_100), half);
    assert_eq!(breaker.promising_probe(ms(3_100)), None, "there is room for the next");
    let probe = breaker.acquire(ms(3_200), half).unwrap();
    assert_eq!(breaker.promising_probe(ms(3_300)), Some(ms(3_200)), "one went well");
    breaker.settle(probe, CallResult::new(Outcome::Success, ms(1)), ms(3_300), half);
    assert_eq!((breaker.state(), breaker.promising_probe(ms(3_300))), (BreakerState::Closed, None));

    let (is_promising, mut breaker, probe) = promising(1_250);
    assert!(is_promising, "nobody has asked when it was due");
    breaker.settle(probe, CallResult::new(Outcome::Failure, ms(1)), ms(1_300), half);
    assert_eq!(breaker.promising_probe(ms(1_300)), None);
    let _probe = breaker.acquire(ms(3_300), half).unwrap();
    assert_eq!(breaker.promising_probe(ms(3_300)), None, "the next time begins anew");
}

#[test]
fn slow_calls_open_it_and_a_slow_probe_keeps_it_open() {
    let settings = BreakerSettings {
        min_calls: 4,
        slow_first_token: Some(ms(100)),
        slow_call_rate: 0.5,
        open: ms(1_000),
        ..BreakerSettings::default()
    };
    let mut breaker = Breaker::new(settings, ms(0));
    let mut stream = |now: u64, first_token: u64| {
        let ticket = breaker.acquire(ms(now), half).unwrap();
        let result = CallResult {
            first_token: Some(ms(first_token)),
            ..CallResult::new(Outcome::Success, ms(500))
        };
        breaker.settle(ticket, result, ms(now), half).map(|change| (change.to, change.reason))
    };
    assert_eq!((stream(0, 100), stream(1, 100), stream(2, 101)), (None, None, None));
    let slow = Reason::SlowCallRate { slow: 2, calls: 4 };
    assert_eq!(stream(3, 400), Some((BreakerState::Open, slow)));
    assert_eq!(stream(2_000, 400), Some((BreakerState::Open, Reason::ProbeFailed)));
}

#[test]
fn what_an_operator_holds_stays_until_released() {
    let mut breaker = Breaker::new(three_in_a_row(), ms(0));
    breaker.command(Command::HoldOpen, ms(0), half);
    assert_eq!(breaker.acquire(ms(999_999), half).unwrap_err(), Outlook::Held);
    breaker.command(Command::HoldClosed, ms(0), half);
    calls(&mut breaker, 50, Outcome::Failure, 1);
    assert_eq!(breaker.state(), BreakerState::ForcedClosed);
    breaker.command(Command::Release, ms(2), half);
    assert_eq!(breaker.state(), BreakerState::Closed);
    let told: Vec<_> = breaker.transitions().map(|one| (one.to, one.reason)).collect();
    assert_eq!(
        told,
        [BreakerState::ForcedOpen, BreakerState::ForcedClosed, BreakerState::Closed]
            .map(|state| (state, Reason::Operator))
    );
}

#[test]
fn after_closing_the_target_takes_a_growing_share() {
    let mut breaker = tripped();
    calls(&mut breaker, 2, Outcome::Success, 1_000);
    assert_eq!(breaker.state(), BreakerState::Closed);
    let share = |now| breaker.share(ms(now));
    assert!((share(1_000) - 0.1).abs() < 1e-9 && (share(6_000) - 0.55).abs() < 1e-9);
    assert!((share(11_000) - 1.0).abs() < 1e-9);
    assert!((Breaker::new(three_in_a_row(), ms(0)).share(ms(0)) - 1.0).abs() < 1e-9);
}

#[test]
fn other_figures_keep_the_state() {
    let mut breaker = tripped();
    breaker
        .configure(BreakerSettings { window: BreakerWindow::Count(5), ..three_in_a_row() }, ms(10));
    assert_eq!(breaker.reopens_in(ms(10)), Some(ms(990)));
}

#[derive(Debug, Clone)]
enum Event {
    Acquire,
    Settle { which: usize, outcome: Outcome, slow: bool },
    Drop { which: usize },
    Wait(u64),
    Command(Command),
}

fn any_event() -> impl Strategy<Value = Event> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Failure), 3 => Just(Outcome::Success),
        1 => Just(Outcome::RateLimited), 1 => Just(Outcome::Neutral),
        1 => Just(Outcome::CutShort),
    ];
    let command = prop_oneof![
        4 => Just(Command::Release), 1 => Just(Command::HoldOpen), 1 => Just(Command::HoldClosed),
        1 => Just(Command::MetricsOnly), 1 => Just(Command::Trip), 1 => Just(Command::Probe),
    ];
    prop_oneof![
        6 => Just(Event::Acquire),
        6 => (any::<usize>(), outcome, any::<bool>())
            .prop_map(|(which, outcome, slow)| Event::Settle { which, outcome, slow }),
        1 => any::<usize>().prop_map(|which| Event::Drop { which }),
        3 => (0_u64..4_000).prop_map(Event::Wait),
        1 => command.prop_map(Event::Command),
    ]
}

fn any_settings() -> impl Strategy<Value = BreakerSettings> {
    let window = prop_oneof![
        Just(BreakerWindow::Count(6)),
        Just(BreakerWindow::Time { span: ms(5_000), buckets: 5, alignment: Alignment::Event }),
        Just(BreakerWindow::Fixed { interval: Some(ms(3_000)) }),
    ];
    let close_on = prop_oneof![(1_u32..4).prop_map(CloseOn::Successes), Just(CloseOn::Rates)];
    (
        window,
        close_on,
        1_u32..4,
        any::<bool>(),
        prop::option::of(1_u32..4),
        any::<bool>(),
        any::<bool>(),
        prop::option::of(500_u64..3_000),
    )
        .prop_map(|(window, close_on, probes, renew, in_a_row, slow, soft, most)| {
            BreakerSettings {
                window,
                close_on,
                probes,
                probes_renew: renew,
                min_calls: 3,
                consecutive_failures: in_a_row,
                slow_call: slow.then_some(ms(100)),
                slow_call_rate: 0.6,
                count_rate_limits: soft,
                half_open_max: most.map(ms),
                open: ms(1_000),
                open_max: ms(4_000),
                ..BreakerSettings::default()
            }
        })
}

proptest! {
    /// Whatever happens in whatever order: an open breaker lets nothing through before its time,
    /// a half-open one never more than its probes, a late result changes nothing, every place
    /// comes back, and what is remembered is bounded.
    #[test]
    fn the_laws_of_a_breaker(
        settings in any_settings(),
        events in prop::collection::vec(any_event(), 1..300),
        dice in 0.0..1.0,
    ) {
        let mut breaker = Breaker::new(settings, ms(0));
        let mut tickets: Vec<Ticket> = Vec::new();
        let mut now = ms(0);
        for event in events {
            match event {
                Event::Wait(wait) => now += ms(wait),
                Event::Command(command) => breaker.command(command, now, || dice),
                Event::Acquire => {
                    let outlook = breaker.outlook(now);
                    let (open, until) = (breaker.state() == BreakerState::Open, breaker.reopens_at);
                    match breaker.acquire(now, || dice) {
                        Ok(ticket) => {
                            prop_assert!(!open || now >= until, "open never admits");
                            prop_assert_eq!(ticket.is_probe(), breaker.state() == BreakerState::HalfOpen);
                            tickets.push(ticket);
                        }
                        Err(Outlook::Admits) => prop_assert!(false, "refused with leave"),
                        // A half-open state may have ended just now.
                        Err(told) => prop_assert!(told == outlook || outlook == Outlook::Probing
                            || outlook == Outlook::Admits),
                    }
                }
                Event::Settle { which, outcome, slow } if !tickets.is_empty() => {
                    let ticket = tickets.swap_remove(which % tickets.len());
                    breaker.expire(now, || dice);
                    let (epoch, stale) = (breaker.epoch, ticket.epoch != breaker.epoch);
                    let total = if slow { ms(200) } else { ms(1) };
                    let change = breaker.settle(ticket, CallResult::new(outcome, total), now, || dice);
                    prop_assert!(!stale || (change.is_none() && breaker.epoch == epoch), "late");
                    if outcome == Outcome::Neutral || (outcome == Outcome::CutShort && !slow) {
                        prop_assert!(change.is_none(), "nothing known decides nothing");
                    }
                }
                Event::Drop { which } if !tickets.is_empty() => {
                    let ticket = tickets.swap_remove(which % tickets.len());
                    prop_assert!(breaker.settle(ticket, CallResult::NEUTRAL, now, || dice).is_none()
                        || breaker.settings.half_open_max.is_some());
                }
                Event::Settle { .. } | Event::Drop { .. } => {}
            }
            if breaker.state() == BreakerState::HalfOpen {
                prop_assert!(breaker.probes.in_flight <= settings.probes);
                let out = tickets.iter().filter(|one| one.epoch == breaker.epoch).count();
                prop_assert_eq!(breaker.probes.in_flight as usize, out, "every place comes back");
                prop_assert!(out > 0 || breaker.outlook(now) == Outlook::Admits, "never stuck");
            }
            if let Some(left) = breaker.reopens_in(now) {
                prop_assert!(left <= settings.open_max, "{left:?}");
            }
            prop_assert!(breaker.transitions.len() <= TRANSITIONS_MAX);
            let share = breaker.share(now);
            prop_assert!((0.1..=1.0).contains(&share));
        }
    }

    #[test]
    fn time_open_grows_and_stays_within_its_limit(trips in 1_u32..200, dice in 0.0..1.0) {
        let settings = BreakerSettings::default();
        let open = settings.open_for(trips, dice);
        prop_assert!(open >= ms(4_000) && open <= settings.open_max);
        prop_assert!(settings.open_for(trips + 1, dice) >= open);
    }
}
