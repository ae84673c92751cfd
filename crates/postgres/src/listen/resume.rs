//! Offset up to which the history has been received, from which a reconnected reader goes on.

/// Position of the reader in the history.
#[derive(Debug)]
pub(crate) struct ResumePoint {
    /// Everything stored up to here has arrived.
    position: i64,
    /// What is stored up to here was read from the table and may still arrive as notifications.
    repeated_up_to: Option<i64>,
}

impl ResumePoint {
    pub(crate) fn new(position: i64) -> Self {
        Self { position, repeated_up_to: None }
    }

    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Notes that the history was read up to here, not yet to its end.
    pub(crate) fn read_up_to(&mut self, position: i64) {
        self.position = position;
    }

    /// Notes that the history was read to its end.
    pub(crate) fn read_to_end(&mut self, end: i64) {
        *self = Self { position: end, repeated_up_to: Some(end) };
    }

    /// Notes that a notification has arrived. Returns whether its message was not read from the table before.
    pub(crate) fn is_new(&mut self, offset: i64) -> bool {
        if self.repeated_up_to.is_some_and(|last| offset <= last) {
            return false;
        }
        *self = Self::new(offset);
        true
    }
}
