//! The outcome of publications, and the credit that bounds them.

use std::{fmt, pin::Pin};

use super::Publication;
use crate::connect::Reply;

/// Observes the outcome of each publication and grants write credit.
pub(crate) trait PublishObserver: fmt::Debug + Send + Sync + 'static {
    /// Waits until more may be written. Returns how many bytes, those that are under way included.
    fn credit(&self) -> Pin<Box<dyn Future<Output = usize> + Send + '_>>;

    /// The server has taken it. Returns the bytes that are free again in the outbox.
    fn acknowledged(&self, publication: Publication, reply: Reply) -> usize;

    /// Nothing is taken for the moment, while everything could be sent and received until now.
    fn lost(&self, reason: &str);

    /// Everything can be sent and received again.
    fn restored(&self);

    /// The server does not take it, for a reason that time does not change. Returns the bytes that are free again in
    /// the outbox.
    fn rejected(&self, publication: Publication, reason: &str) -> usize;
}
