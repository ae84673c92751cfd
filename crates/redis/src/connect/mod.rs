//! The way to Redis: topology, authenticated connections and the wire.

mod connection;
mod credentials;
mod error;
mod resp;
mod role;
mod status;
mod tasks;
#[cfg(feature = "tls")]
mod tls;
mod topology;

pub(crate) use self::{
    connection::{CommandConnection, Former, Socket, no_answer, time_on_link, write_all},
    credentials::{Renewals, not_renewed},
    error::{is_forbidden, is_temporary, lost, rejection},
    resp::{Frames, Reader, Reply, write_command},
    role::{DEMOTED, ROLE, demoted, is_replica},
    status::{Hold, Listening, Status},
    tasks::Tasks,
    topology::{Destination, FIRST_PAUSE, ServerPool, slot_of},
};
