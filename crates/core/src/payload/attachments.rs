//! [`Attachments`]: the binary parts of a JSON payload.

use std::{fmt, ops::Deref, sync::Arc};

use bytes::Bytes;

/// Binary parts of a JSON payload, in the order of the numbers in their placeholders. An empty list is not allocated,
/// and a clone shares it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attachments(Option<Arc<[Bytes]>>);

impl Attachments {
    /// The empty list.
    pub const NONE: Self = Self(None);
}

impl From<Vec<Bytes>> for Attachments {
    fn from(parts: Vec<Bytes>) -> Self {
        Self((!parts.is_empty()).then(|| Arc::from(parts)))
    }
}

impl FromIterator<Bytes> for Attachments {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        parts.into_iter().collect::<Vec<_>>().into()
    }
}

impl Deref for Attachments {
    type Target = [Bytes];

    fn deref(&self) -> &[Bytes] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl fmt::Debug for Attachments {
    /// Sizes only: binary parts are user data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Bytes::len)).finish()
    }
}
