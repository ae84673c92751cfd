//! State of a transport's connections: whether both directions stand, and if not, why and since when.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use tokio::sync::watch;
use trunkline_core::transport::Health;

/// Direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the broker to the nodes.
    Inbound,
    /// From the nodes to the broker.
    Outbound,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Inbound { "listening" } else { "publishing" })
    }
}

/// State of both directions. A loss and the return are reported once, whichever direction it is.
#[derive(Debug, Default)]
pub struct LinkState {
    state: Mutex<State>,
    listening: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    listening: bool,
    publishing: bool,
    reconnects: u64,
    /// Whether both directions were connected before.
    stood: bool,
    loss: Loss,
}

/// Why and since when the broker cannot be used. A loss with the name of a broker is logged: once when it begins, at
/// `warn`, and once when it ends, at `info`.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    logged_as: Option<&'static str>,
    current: Option<CurrentLoss>,
    /// Reason of the last one that is over, and since when it is.
    last: Option<(String, SystemTime)>,
}

#[derive(Clone, Debug)]
struct CurrentLoss {
    reason: String,
    since: SystemTime,
    /// As `since`, on the monotonic clock.
    began: Instant,
}

impl Loss {
    /// None yet, of a broker of this name.
    #[must_use]
    pub fn of(broker: &'static str) -> Self {
        Self { logged_as: Some(broker), ..Self::default() }
    }

    /// Notes the latest reason. The time stays that of the first one.
    pub fn note(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if let Some(current) = &mut self.current {
            current.reason = reason;
            return;
        }
        if let Some(broker) = self.logged_as {
            tracing::warn!(broker, reason, "the way to the broker is lost: messages are held until it is back");
        }
        self.current = Some(CurrentLoss { reason, since: SystemTime::now(), began: Instant::now() });
    }

    /// Notes that the broker can be used again.
    pub fn end(&mut self) {
        let Some(current) = self.current.take() else { return };
        self.last = Some((current.reason, SystemTime::now()));
        if let Some(broker) = self.logged_as {
            tracing::info!(broker, lost_for = ?current.began.elapsed(), "the way to the broker is back");
        }
    }

    /// Logs nothing any more: the transport is closing.
    pub fn silence(&mut self) {
        self.logged_as = None;
    }

    /// The same health, with the reason and the time if there is a loss, or was one.
    #[must_use]
    pub fn add_to(&self, health: Health) -> Health {
        match &self.current {
            Some(current) => health.with_loss(current.reason.clone(), current.since),
            None => match &self.last {
                Some((reason, since)) if health.connected && health.since < Some(*since) => {
                    health.with_return(reason.as_str(), *since)
                }
                _ => health,
            },
        }
    }
}

impl LinkState {
    /// Of a broker of this name, by which losses and returns are logged.
    #[must_use]
    pub fn of(broker: &'static str) -> Self {
        Self { state: Mutex::new(State { loss: Loss::of(broker), ..State::default() }), ..Self::default() }
    }

    /// Logs nothing any more: the transport is closing.
    pub fn silence(&self) {
        self.lock().loss.silence();
    }

    /// Notes that a direction is connected (again). If now both are, calls `up`, with whether they had been before; the
    /// state does not change meanwhile.
    pub fn restored(&self, side: Direction, up: impl FnOnce(bool)) {
        let mut state = self.lock();
        *state.side(side) = true;
        self.listening.send_replace(state.listening);
        if state.is_up() {
            state.loss.end();
            let is_return = std::mem::replace(&mut state.stood, true);
            state.reconnects += u64::from(is_return);
            up(is_return);
        }
    }

    /// Notes that a direction is lost, or could not be restored, and why. Calls `down` with whether both were connected
    /// until now, and with the text for [`Delivery::Lost`](trunkline_core::model::Delivery::Lost), which
    /// [`LinkState::health`] tells too; the state does not change meanwhile.
    pub fn lost(&self, side: Direction, reason: &str, down: impl FnOnce(bool, &str)) {
        let reason = format!("{side}: {reason}");
        let mut state = self.lock();
        let was_up = state.is_up();
        *state.side(side) = false;
        state.loss.note(reason.as_str());
        self.listening.send_replace(state.listening);
        down(was_up, &reason);
    }

    /// Whether both directions are connected, if not, why and since when, and how often they were connected again.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = self.lock();
        let health = Health::default().with_connected(state.is_up()).with_reconnects(state.reconnects);
        state.loss.add_to(health)
    }

    /// Waits until the inbound direction is connected: what is published earlier may miss its answers. *Cancel safe.*
    pub async fn until_listening(&self) {
        // An error is impossible: this holds the other end.
        let _ = self.listening.subscribe().wait_for(|listening| *listening).await;
    }

    /// Whether both directions are connected.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.lock().is_up()
    }

    /// How often both directions were connected again after a loss.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.lock().reconnects
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn side(&mut self, side: Direction) -> &mut bool {
        match side {
            Direction::Inbound => &mut self.listening,
            Direction::Outbound => &mut self.publishing,
        }
    }

    fn is_up(&self) -> bool {
        self.listening && self.publishing
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn a_loss_and_a_return_are_told_once_whichever_direction_it_is() {
        let (link, told) = (LinkState::default(), RefCell::new(Vec::new()));
        let restored = |side| link.restored(side, |is_return| told.borrow_mut().push((side, is_return)));
        let lost = |side| link.lost(side, "reset", |was_up, _| told.borrow_mut().push((side, was_up)));
        restored(Direction::Outbound);
        assert!(told.take().is_empty(), "nobody can be heard yet");
        restored(Direction::Inbound);
        link.until_listening().await;
        assert_eq!((told.take(), link.is_up()), (vec![(Direction::Inbound, false)], true));
        lost(Direction::Outbound);
        lost(Direction::Inbound);
        assert_eq!(told.take(), [(Direction::Outbound, true), (Direction::Inbound, false)]);
        restored(Direction::Inbound);
        restored(Direction::Outbound);
        assert_eq!((told.take(), link.reconnects()), (vec![(Direction::Outbound, true)], 1));
    }
    #[test]
    fn the_health_tells_the_last_reason_and_the_first_time() {
        let link = LinkState::default();
        link.restored(Direction::Inbound, |_| ());
        link.restored(Direction::Outbound, |_| ());
        assert_eq!(link.health(), Health::default().with_connected(true));
        let mut told = String::new();
        link.lost(Direction::Inbound, "reset", |_, reason| reason.clone_into(&mut told));
        let first = link.health();
        assert_eq!((first.connected, first.reason), (false, Some(told)));
        link.lost(Direction::Inbound, "refused", |_, _| ());
        let second = link.health();
        assert_eq!((second.reason.as_deref(), second.since), (Some("listening: refused"), first.since));
        link.restored(Direction::Inbound, |_| ());
        let after = link.health();
        let returned = Health::default().with_connected(true).with_reconnects(1);
        let expected = returned.with_return("listening: refused", after.since.expect("it is known since when"));
        assert_eq!(after, expected);
        assert!(after.since >= first.since);
    }
}
