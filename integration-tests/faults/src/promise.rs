//! What is promised for a fault on a transport, and whether what was measured keeps it.

use std::time::{Duration, Instant};

use trunkline_brokers::transports::Transport;

use crate::{
    fault::{Fault, LONGEST_PAUSE},
    ledger::Balance,
    outcome::Figures,
    timing::seconds,
};

/// How long before a fault a message may have been sent that the fault catches on its way.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) loss: Loss,
    /// How long everything may take to be right again.
    pub(crate) recovery: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing may be lost, and no gap reported.
    Never,
    /// Messages may be lost during the outage, if gaps tell.
    InTheOutage,
}

/// The moments by which losses are judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) began: Instant,
    pub(crate) healed: Instant,
}

impl Promise {
    pub(crate) fn of(transport: Transport, fault: Fault) -> Self {
        let kept = transport.has_history() && !fault.destroys_history();
        let loss = if kept || !fault.is_outage() { Loss::Never } else { Loss::InTheOutage };
        Self { loss, recovery: fault.recovery_limit() }
    }

    /// In words, for the table.
    pub(crate) fn shown(&self) -> String {
        let loss = match self.loss {
            Loss::Never => "0/0/0",
            Loss::InTheOutage => "gap/0/0",
        };
        format!("{loss}, {} s", self.recovery.as_secs())
    }

    /// Adds to the figures what they break.
    pub(crate) fn judge(&self, has_history: bool, window: Window, balance: &Balance, figures: &mut Figures) {
        let mut broken = Vec::new();
        self.judge_losses(window, balance, &mut broken);
        if balance.repeated > 0 {
            broken.push(format!("{} messages arrived twice", balance.repeated));
        }
        if balance.reordered > 0 {
            broken.push(format!("{} messages arrived out of order", balance.reordered));
        }
        // A node that is still cut off will report its gap later.
        if figures.recovery.is_some() {
            broken.extend(figures.gaps.iter().filter_map(|book| book.error(has_history && self.loss == Loss::Never)));
        }
        if figures.wrong > 0 {
            broken.push(format!("{} requests succeeded with too few answers", figures.wrong));
        }
        match figures.recovery {
            Some(took) if took <= self.recovery.as_secs_f64() => {}
            Some(took) => {
                broken.push(format!("right again after {took:.1} s instead of {} s", self.recovery.as_secs()));
            }
            None => broken.push("not right again at the end".to_owned()),
        }
        let left = figures.leftovers;
        if left.connections + left.subscriptions > 0 {
            broken.push(format!(
                "{} connections and {} subscriptions are left in the broker",
                left.connections, left.subscriptions
            ));
        }
        figures.broken.extend(broken);
    }

    fn judge_losses(&self, window: Window, balance: &Balance, broken: &mut Vec<String>) {
        match self.loss {
            Loss::Never if balance.lost + balance.own_lost > 0 => broken.push(format!(
                "{} messages of other nodes and {} of the own node were lost",
                balance.lost, balance.own_lost
            )),
            Loss::Never => {}
            Loss::InTheOutage => {
                let outside = self.outside(window, balance);
                if outside > 0 {
                    broken.push(format!("{outside} messages were lost outside the outage"));
                }
            }
        }
    }

    /// Number of losses of messages sent before the fault or after the time in which all may be right again.
    fn outside(&self, window: Window, balance: &Balance) -> usize {
        let (first, last) = (-ON_THE_WAY.as_secs_f64(), self.recovery.as_secs_f64());
        let inside = |at: Instant| seconds(at, window.began) >= first && seconds(at, window.healed) <= last;
        balance.losses.iter().filter(|loss| !inside(loss.at)).count()
    }
}

/// The sentence about recovery for the head of the table.
pub(crate) fn recovery_rule() -> String {
    format!(
        "{} s, twice the longest pause between attempts to reconnect ({} s)",
        LONGEST_PAUSE.as_secs() * 2,
        LONGEST_PAUSE.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger;

    fn judged(promise: Promise, balance: &Balance, figures: Figures) -> Vec<String> {
        let began = Instant::now();
        let window = Window { began, healed: began + Duration::from_secs(5) };
        let mut figures = figures;
        promise.judge(true, window, balance, &mut figures);
        figures.broken
    }

    fn figures() -> Figures {
        Figures { recovery: Some(1.0), ..Figures::default() }
    }

    #[test]
    fn a_history_loses_nothing_unless_it_is_deleted() {
        let loss = |transport, fault| Promise::of(transport, fault).loss;
        assert_eq!(loss(Transport::NatsHistory, Fault::BrokerKilled), Loss::Never);
        assert_eq!(loss(Transport::NatsHistory, Fault::Deleted), Loss::InTheOutage);
        assert_eq!(loss(Transport::Nats, Fault::BrokerKilled), Loss::InTheOutage);
        assert_eq!(loss(Transport::Nats, Fault::Storm), Loss::Never);
    }

    #[test]
    fn everything_that_is_not_promised_is_named() {
        let promise = Promise::of(Transport::NatsHistory, Fault::Reset);
        assert_eq!(judged(promise, &Balance::default(), figures()), [""; 0]);
        let balance = Balance { lost: 1, repeated: 2, reordered: 3, ..Balance::default() };
        let bad = Figures { wrong: 1, recovery: Some(10.5), ..Figures::default() };
        assert_eq!(judged(promise, &balance, bad).len(), 5);
        assert_eq!(judged(promise, &Balance::default(), Figures::default()).len(), 1);
    }

    #[test]
    fn a_loss_counts_by_the_moment_at_which_it_was_sent() {
        let promise = Promise::of(Transport::Nats, Fault::Reset);
        let began = Instant::now() + Duration::from_secs(60);
        let window = Window { began, healed: began + Duration::from_secs(5) };
        let at = |seconds: f64| began - Duration::from_secs(10) + Duration::from_secs_f64(10.0 + seconds);
        let losses = [-2.0, -0.5, 4.0, 14.0, 16.0].map(|seconds| ledger::Loss { from: 0, to: 1, at: at(seconds) });
        let balance = Balance { losses: losses.to_vec(), ..Balance::default() };
        assert_eq!(promise.outside(window, &balance), 2);
    }
}
