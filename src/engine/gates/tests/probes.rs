//! Waiting for a probe that is under way.

use super::*;

/// A gate whose breaker has opened for five seconds, at this moment after that.
async fn opened(after: Duration) -> Gate {
    let gate = gate_with(GateSettings { in_flight_max: 9, queue_max: 9, ..settings() });
    gate.command(Command::Trip);
    tokio::time::advance(S(5) + after).await;
    gate
}

/// A call that waits for a probe, in a task of its own: how long it took to get in, or why not.
fn waits(gate: &Gate) -> tokio::task::JoinHandle<Result<(Duration, Ticket), Failure>> {
    let gate = gate.clone();
    tokio::spawn(async move {
        let began = Instant::now();
        let ask = Ask { awaits_probe: true, ..of("me") };
        let ticket = gate.admit(&ask, in_a_minute()).await?;
        Ok((began.elapsed(), ticket))
    })
}

async fn under_way(
    gate: &Gate,
) -> [tokio::task::JoinHandle<Result<(Duration, Ticket), Failure>>; 2] {
    let both = [waits(gate), waits(gate)];
    tokio::task::yield_now().await;
    both
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_the_probes_of_a_target_that_was_idle() {
    let gate = opened(S(20)).await;
    let probe = admit(&gate).await.unwrap();
    assert_eq!(standing(&gate), (Some(S(1)), Some(Refusal::ProbeUnderWay)));
    assert_eq!(refused(&gate).await.0, FailureCause::CircuitOpen, "who does not wait is refused");
    let [second, third] = under_way(&gate).await;
    assert_eq!(gate.view().queued, 2);
    tokio::time::advance(S(1)).await;
    drop(probe.settle(report(None)));
    // One probe is not enough: the next is the first of those who wait, the others wait on.
    let (took, probe) = second.await.unwrap().unwrap();
    assert_eq!((took, gate.view().queued), (S(1), 1));
    assert_eq!(gate.view().breaker, BreakerState::HalfOpen);
    tokio::time::advance(S(1)).await;
    drop(probe.settle(report(None)));
    let (took, _place) = third.await.unwrap().unwrap();
    assert_eq!((took, gate.view().breaker), (S(2), BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn they_are_sent_away_at_once_when_it_fails() {
    let gate = opened(S(20)).await;
    let probe = admit(&gate).await.unwrap();
    let both = under_way(&gate).await;
    let began = Instant::now();
    let failure = Failure::new(FailureCause::Connect, "x");
    drop(probe.settle(report(Some(&failure))));
    for one in both {
        let refused = one.await.unwrap().err().unwrap();
        assert_eq!((refused.cause, refused.retry_after), (FailureCause::CircuitOpen, Some(S(10))));
    }
    assert_eq!((began.elapsed(), gate.view().queued), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_makes_room_for_who_waits() {
    let gate = opened(S(20)).await;
    let probe = admit(&gate).await.unwrap();
    let [second, third] = under_way(&gate).await;
    drop(probe);
    let (took, probe) = second.await.unwrap().unwrap();
    assert_eq!((took, gate.view().queued), (Duration::ZERO, 1));
    drop(probe.settle(report(None)));
    drop(third.await.unwrap().unwrap().1.settle(report(None)));
    assert_eq!(gate.view().breaker, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_probe_in_the_midst_of_an_outage() {
    let gate = opened(Duration::ZERO).await;
    let _probe = admit(&gate).await.unwrap();
    assert_eq!(standing(&gate).1, Some(Refusal::BreakerOpen));
    let [second, third] = under_way(&gate).await;
    for one in [second, third] {
        assert_eq!(one.await.unwrap().err().unwrap().cause, FailureCause::CircuitOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_is_not_waited_for_longer_than_a_place() {
    let gate = opened(S(20)).await;
    let _hangs = admit(&gate).await.unwrap();
    tokio::time::advance(S(1)).await;
    let began = Instant::now();
    for one in under_way(&gate).await {
        let refused = one.await.unwrap().err().unwrap();
        assert_eq!(
            (refused.cause, refused.detail),
            (FailureCause::CircuitOpen, Some("breaker_open"))
        );
    }
    // The five seconds began with the probe, and after them nobody waits.
    assert_eq!(began.elapsed(), S(4));
    assert_eq!(standing(&gate).1, Some(Refusal::BreakerOpen));
    let late = waits(&gate).await.unwrap().err().unwrap();
    assert_eq!((late.cause, began.elapsed()), (FailureCause::CircuitOpen, S(4)));
}
