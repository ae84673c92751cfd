//! The engine alone: scenarios on a simulated clock, without network or sockets.

mod acks;
mod census;
mod gaps;
mod messages;
mod numbers;
mod presence;
mod requests;
mod rig;
mod time;
