//! Alerts: more failures of a domain than the policy bears, or an action that calls somebody.
//!
//! Kept in memory and bounded; written to the log when raised and when over. Delivery by webhook
//! and metric joins here.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::failure::{FailureCause, FailureDomain};
use crate::journal::PolicyRef;

/// Alerts remembered, raised and over together.
const ALERTS_MAX: usize = 256;
/// Failures remembered for a threshold: none can be higher.
const WINDOW_MAX: usize = 4_096;

/// One alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Number since start, from 1.
    pub id: u64,
    /// Policy that raised it.
    pub policy: Arc<str>,
    /// Domain.
    pub domain: FailureDomain,
    /// Cause that came up last.
    pub cause: FailureCause,
    /// Pipeline; empty for none.
    pub pipeline: Arc<str>,
    /// Step.
    pub step: Arc<str>,
    /// Target; empty for none.
    pub target: Arc<str>,
    /// Failures counted since it was raised.
    pub count: u64,
    /// When it was raised.
    pub started: SystemTime,
    /// When it came up last.
    pub last: SystemTime,
    /// When it was over.
    pub ended: Option<SystemTime>,
    /// What it says, for alerts that are not about failures of runs.
    pub notice: Option<Arc<str>>,
}

/// Where a failure came up.
#[derive(Debug, Clone)]
pub struct AlertSite<'a> {
    /// Policy in force.
    pub policy: &'a Arc<str>,
    /// Domain.
    pub domain: FailureDomain,
    /// Cause.
    pub cause: FailureCause,
    /// Pipeline; empty for none.
    pub pipeline: &'a Arc<str>,
    /// Step.
    pub step: &'a Arc<str>,
    /// Target; empty for none.
    pub target: &'a Arc<str>,
}

#[derive(Debug)]
struct Counter {
    policy: Arc<str>,
    domain: FailureDomain,
    seen: VecDeque<Instant>,
    window: Duration,
    firing: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    counters: Vec<Counter>,
    /// Numbers of the notices that stand, by what they are about.
    notices: HashMap<String, u64>,
    alerts: VecDeque<Alert>,
    next_id: u64,
}

/// All alerts.
#[derive(Debug, Default)]
pub struct Alerts {
    inner: Mutex<Inner>,
}

impl Alerts {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure; raises an alert when `threshold` of the domain came up within `window`.
    pub fn count(&self, site: &AlertSite<'_>, threshold: u32, window: Duration, now: Instant) {
        let mut inner = self.inner();
        let index = inner.counter(site, window);
        let Some(counter) = inner.counters.get_mut(index) else { return };
        counter.window = window;
        counter.seen.push_back(now);
        while counter.seen.len() > WINDOW_MAX
            || counter.seen.front().is_some_and(|first| now.duration_since(*first) > window)
        {
            counter.seen.pop_front();
        }
        if counter.seen.len() >= threshold.max(1) as usize || counter.firing.is_some() {
            inner.raise(index, site);
        }
    }

    /// Raises an alert at once, because an action says so.
    pub fn raise(&self, site: &AlertSite<'_>, window: Duration, now: Instant) {
        let mut inner = self.inner();
        let index = inner.counter(site, window);
        if let Some(counter) = inner.counters.get_mut(index) {
            counter.seen.push_back(now);
        }
        inner.raise(index, site);
    }

    /// Raises an alert that is not about failures of runs and stands until [`Alerts::mended`].
    /// `about` says what it is about; a second one about the same counts on the first.
    pub fn notice(&self, about: &str, text: &str) {
        let mut inner = self.inner();
        let now = SystemTime::now();
        if let Some(id) = inner.notices.get(about).copied()
            && let Some(alert) = inner.alerts.iter_mut().find(|alert| alert.id == id)
        {
            alert.count += 1;
            alert.last = now;
            alert.notice = Some(text.into());
            return;
        }
        tracing::warn!(about, "alert raised: {text}");
        let none: Arc<str> = "".into();
        let alert = Alert {
            id: inner.next_id + 1,
            policy: none.clone(),
            domain: FailureDomain::PipelineLogic,
            cause: FailureCause::Internal,
            pipeline: none.clone(),
            step: none.clone(),
            target: none,
            count: 1,
            started: now,
            last: now,
            ended: None,
            notice: Some(text.into()),
        };
        if inner.notices.len() >= ALERTS_MAX {
            inner.notices.clear();
        }
        inner.notices.insert(about.to_owned(), alert.id);
        inner.keep(alert);
    }

    /// Raises the alert of an override whose condition could not be evaluated. It stands until
    /// another version of its policy serves.
    pub fn broken_override(&self, policy: &PolicyRef, rule: &str) {
        let text = format!(
            "the condition of override {rule} of policy {} version {} could not be evaluated; it counts as not met",
            policy.name, policy.version
        );
        self.notice(&about_overrides(&policy.name), &text);
    }

    /// Ends what stands about the version of a policy that served before.
    pub fn policy_replaced(&self, name: &str) {
        self.mended(&about_overrides(name));
    }

    /// Ends the notice about this, if one stands.
    pub fn mended(&self, about: &str) {
        let mut inner = self.inner();
        let Some(id) = inner.notices.remove(about) else { return };
        if let Some(alert) = inner.alerts.iter_mut().find(|alert| alert.id == id) {
            alert.ended = Some(SystemTime::now());
            tracing::info!(about, "alert is over");
        }
    }

    /// Ends the alerts whose domain was quiet for its window. Called now and then.
    pub fn settle(&self, now: Instant) {
        let mut inner = self.inner();
        let mut over = Vec::new();
        for counter in &mut inner.counters {
            let window = counter.window;
            if counter.seen.back().is_none_or(|last| now.duration_since(*last) > window)
                && let Some(id) = counter.firing.take()
            {
                over.push(id);
            }
        }
        for alert in inner.alerts.iter_mut().filter(|alert| over.contains(&alert.id)) {
            alert.ended = Some(SystemTime::now());
            tracing::info!(
                policy = %alert.policy, domain = %alert.domain, count = alert.count,
                "alert is over"
            );
        }
    }

    /// Alerts, newest first.
    pub fn list(&self) -> Vec<Alert> {
        self.inner().alerts.iter().rev().cloned().collect()
    }
}

impl Inner {
    fn counter(&mut self, site: &AlertSite<'_>, window: Duration) -> usize {
        let found =
            self.counters.iter().position(|c| c.policy == *site.policy && c.domain == site.domain);
        found.unwrap_or_else(|| {
            // One for each policy and domain: policies are few, but a pusher could rename for
            // ever.
            if self.counters.len() >= 4 * ALERTS_MAX {
                self.counters.remove(0);
            }
            self.counters.push(Counter {
                policy: site.policy.clone(),
                domain: site.domain,
                seen: VecDeque::new(),
                window,
                firing: None,
            });
            self.counters.len() - 1
        })
    }

    fn raise(&mut self, index: usize, site: &AlertSite<'_>) {
        let now = SystemTime::now();
        let Some(counter) = self.counters.get_mut(index) else { return };
        if let Some(id) = counter.firing
            && let Some(alert) = self.alerts.iter_mut().find(|alert| alert.id == id)
        {
            alert.count += 1;
            alert.last = now;
            alert.cause = site.cause;
            alert.step = site.step.clone();
            alert.target = site.target.clone();
            return;
        }
        self.next_id += 1;
        counter.firing = Some(self.next_id);
        tracing::warn!(
            policy = %site.policy, domain = %site.domain, cause = %site.cause,
            pipeline = %site.pipeline, step = %site.step, target = %site.target,
            "alert raised"
        );
        let count = counter.seen.len() as u64;
        self.keep(Alert {
            id: self.next_id,
            policy: site.policy.clone(),
            domain: site.domain,
            cause: site.cause,
            pipeline: site.pipeline.clone(),
            step: site.step.clone(),
            target: site.target.clone(),
            count,
            started: now,
            last: now,
            ended: None,
            notice: None,
        });
    }

    fn keep(&mut self, alert: Alert) {
        self.next_id = self.next_id.max(alert.id);
        if self.alerts.len() >= ALERTS_MAX {
            self.alerts.pop_front();
        }
        self.alerts.push_back(alert);
    }
}

fn about_overrides(policy: &str) -> String {
    format!("overrides of policy/{policy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_alert_per_burst_that_ends_when_quiet() {
        let alerts = Alerts::default();
        let (policy, none): (Arc<str>, Arc<str>) = ("p".into(), "".into());
        let site = AlertSite {
            policy: &policy,
            domain: FailureDomain::Infrastructure,
            cause: FailureCause::RateLimited,
            pipeline: &none,
            step: &none,
            target: &none,
        };
        let window = Duration::from_secs(60);
        for _ in 0..2 {
            alerts.count(&site, 3, window, Instant::now());
        }
        assert!(alerts.list().is_empty());
        for _ in 0..5 {
            alerts.count(&site, 3, window, Instant::now());
        }
        assert_eq!(alerts.list().len(), 1);
        assert_eq!(alerts.list()[0].count, 7);
        tokio::time::advance(Duration::from_secs(61)).await;
        alerts.settle(Instant::now());
        assert!(alerts.list()[0].ended.is_some());
        alerts.raise(&site, window, Instant::now());
        assert_eq!(alerts.list().len(), 2);
    }

    #[test]
    fn a_notice_stands_until_it_is_mended() {
        let alerts = Alerts::default();
        alerts.mended("policy/a");
        alerts.notice("policy/a", "it is broken");
        alerts.notice("policy/a", "it is broken in another way");
        alerts.notice("policy/b", "it is gone");
        let told: Vec<_> =
            alerts.list().iter().map(|a| (a.id, a.count, a.notice.clone())).collect();
        assert_eq!(
            told,
            [(2, 1, Some("it is gone".into())), (1, 2, Some("it is broken in another way".into()))]
        );
        alerts.mended("policy/a");
        let standing: Vec<u64> =
            alerts.list().iter().filter(|a| a.ended.is_none()).map(|a| a.id).collect();
        assert_eq!(standing, [2]);
        alerts.notice("policy/a", "again");
        assert_eq!(alerts.list().len(), 3);
    }
}
