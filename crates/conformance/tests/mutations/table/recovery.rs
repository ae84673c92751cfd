//! Histories that lose or change broadcasts and sessions.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use trunkline_core::{
    ErrorKind, Message, Namespace, NodeKey, Offset, Result, Room, Session, SessionId, memory,
    model::Delivery,
    transport::{History, MissedBroadcast, RestoredSession, inbox},
};

use super::{broadcast, mutation};
use crate::{Mutation, broken::Defect, sound};

/// The groups of rooms that are asked for one after the other.
pub(super) type Regroup = fn(&[Room]) -> Vec<Vec<Room>>;

type Kept = Option<(Session, Vec<MissedBroadcast>)>;

/// What a history does wrong. Calls without a defect are forwarded.
#[derive(Clone, Default)]
pub(super) struct Forgetting {
    pub(super) persist: Option<fn(&mut Session)>,
    pub(super) since: Option<fn(&Offset) -> Offset>,
    pub(super) rooms: Option<Regroup>,
    pub(super) missed: Option<fn(&mut Vec<MissedBroadcast>)>,
    pub(super) restored: Option<fn(&mut RestoredSession)>,
    pub(super) failed: Option<fn(ErrorKind) -> bool>,
    /// Sessions are restored a second time.
    pub(super) forever: bool,
    /// Only the first state of a session is kept.
    pub(super) first: bool,
    /// All namespaces share the sessions of the main one.
    pub(super) everywhere: bool,
    /// Changes the ids under which sessions are stored.
    pub(super) id: Option<fn(&SessionId) -> SessionId>,
}

struct Broken {
    history: Arc<dyn History>,
    how: Forgetting,
    /// Of all nodes.
    seen: Arc<Mutex<HashMap<SessionId, Kept>>>,
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broken")
    }
}

impl Broken {
    fn key(&self, id: &SessionId) -> SessionId {
        self.how.id.map_or_else(|| id.clone(), |change| change(id))
    }

    fn forgive<T: Default>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(error) if self.how.failed.is_some_and(|forgives| forgives(error.kind())) => Ok(T::default()),
            result => result,
        }
    }
}

#[async_trait]
impl History for Broken {
    async fn persist(&self, node: &NodeKey, mut session: Session) -> Result<()> {
        if let Some(persist) = self.how.persist {
            persist(&mut session);
        }
        session.id = self.key(&session.id);
        let known = self.seen.lock().unwrap().insert(session.id.clone(), None).is_some();
        if known && self.how.first { Ok(()) } else { self.history.persist(node, session).await }
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        let id = &self.key(id);
        let mut restored = self.forgive(self.history.restore(node, id, since).await)?;
        if restored.is_none() && self.how.everywhere {
            let main = NodeKey { namespace: Namespace::new("/"), ..node.clone() };
            restored = self.history.restore(&main, id, since).await?;
        }
        let Some(mut restored) = restored else { return Ok(None) };
        if self.how.forever {
            self.history.persist(node, restored.session.clone()).await?;
        }
        if self.how.rooms.is_some() || self.how.since.is_some() {
            restored.missed = self.replay(node, since, &restored.session.rooms_with_own()).await?;
        } else if let Some(missed) = self.how.missed {
            missed(&mut restored.missed);
        }
        if let Some(change) = self.how.restored {
            change(&mut restored);
        }
        Ok(Some(restored))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        let since = self.how.since.map_or_else(|| since.clone(), |change| change(since));
        let groups = self.how.rooms.map_or_else(|| vec![rooms.to_vec()], |change| change(rooms));
        let mut missed: Vec<MissedBroadcast> = Vec::new();
        for rooms in groups {
            for packet in self.forgive(self.history.replay(node, &since, &rooms).await)? {
                if missed.iter().all(|other| other.offset != packet.offset) {
                    missed.push(packet);
                }
            }
        }
        if let Some(change) = self.how.missed {
            change(&mut missed);
        }
        Ok(missed)
    }

    async fn reach(&self, node: &NodeKey) -> Result<Option<Duration>> {
        self.history.reach(node).await
    }
}

pub(super) fn forgetting(name: &'static str, how: Forgetting, fails: &[&'static str]) -> Mutation {
    let seen = Arc::default();
    let setup = sound().map(move |mut backend| {
        backend.history = backend.history.take().map(|history| -> Arc<dyn History> {
            Arc::new(Broken { history, how: how.clone(), seen: Arc::clone(&seen) })
        });
        backend
    });
    Mutation { name, setup, fails: fails.to_vec() }
}

pub(crate) fn all() -> Vec<Mutation> {
    let mut all = sessions();
    all.extend(replays());
    all.extend(offsets());
    all
}

fn sessions() -> Vec<Mutation> {
    let it = Forgetting::default;
    vec![
        forgetting(
            "restores sessions twice",
            Forgetting { forever: true, ..it() },
            &["recovery::a_session_is_restored_only_once"],
        ),
        forgetting(
            "keeps the first state of a session",
            Forgetting { first: true, ..it() },
            &[
                "recovery::a_session_persisted_twice_is_restored_as_it_was_last",
                "recovery::an_invalid_offset_is_refused_and_the_session_stays",
            ],
        ),
        forgetting(
            "restores sessions in other namespaces",
            Forgetting { everywhere: true, ..it() },
            &["recovery::namespaces_keep_their_own_sessions_and_packets"],
        ),
        forgetting(
            "forgets data",
            Forgetting { persist: Some(|session| session.data = None), ..it() },
            &["recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed"],
        ),
        forgetting(
            "forgets rooms",
            Forgetting { persist: Some(|session| session.rooms.clear()), ..it() },
            &[
                "recovery::a_session_brings_what_was_sent_to_its_socket_and_not_what_its_socket_sent",
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "recovery::a_session_persisted_twice_is_restored_as_it_was_last",
                "recovery::clusters_of_different_names_keep_their_own_sessions",
                "recovery::namespaces_keep_their_own_sessions_and_packets",
                "recovery::only_packets_for_the_rooms_of_the_session_are_replayed",
                "recovery::the_session_of_a_killed_node_is_restored",
            ],
        ),
        forgetting(
            "gives a new socket id",
            Forgetting {
                restored: Some(|restored| restored.session.socket = trunkline_core::SocketId::new("new").unwrap()),
                ..it()
            },
            &[
                "recovery::a_session_brings_what_was_sent_to_its_socket_and_not_what_its_socket_sent",
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
            ],
        ),
        mutation_of_expiry(
            "forgets sessions at once",
            Duration::ZERO,
            &["recovery::a_session_expires", "recovery::replay_from_a_trimmed_history_fails"],
        ),
        mutation_of_expiry("never forgets sessions", Duration::from_secs(1000), &["recovery::a_session_expires"]),
    ]
}

fn mutation_of_expiry(name: &'static str, session_ttl: Duration, fails: &[&'static str]) -> Mutation {
    let limits = memory::HistoryLimits { session_ttl, ..crate::LIMITED_HISTORY };
    let setup = sound().limited_history(move |cluster| async move { crate::with_history(&cluster, limits) });
    Mutation { name, setup, fails: fails.to_vec() }
}

fn named(missed: &MissedBroadcast, name: &str) -> bool {
    missed.payload.event_name().as_deref() == Some(name)
}

fn replays() -> Vec<Mutation> {
    let it = Forgetting::default;
    vec![
        forgetting(
            "replays backwards",
            Forgetting { missed: Some(|missed| missed.reverse()), ..it() },
            &[
                "recovery::a_session_brings_what_was_sent_to_its_socket_and_not_what_its_socket_sent",
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "recovery::replay_continues_after_any_offset",
                "recovery::replay_continues_after_the_present_offset",
                "recovery::missed_packets_are_replayed_whole_and_in_order",
                "recovery::replay_continues_after_the_offset_of_a_missed_packet",
                "recovery::only_packets_for_the_rooms_of_the_session_are_replayed",
                "recovery::broadcasts_of_every_node_and_the_emitter_are_replayed",
            ],
        ),
        forgetting(
            "replays all but the first",
            Forgetting { missed: Some(|missed| drop(missed.drain(..missed.len().min(1)))), ..it() },
            &[
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "recovery::replay_from_a_trimmed_history_fails",
                "recovery::clusters_of_different_names_keep_their_own_sessions",
                "recovery::replay_continues_after_any_offset",
                "recovery::missed_packets_are_replayed_whole_and_in_order",
                "recovery::replay_continues_after_the_offset_of_a_missed_packet",
                "recovery::namespaces_keep_their_own_sessions_and_packets",
                "recovery::number_rooms_are_kept_apart_from_their_texts",
                "recovery::only_plain_broadcasts_are_replayed",
                "recovery::only_packets_for_the_rooms_of_the_session_are_replayed",
                "recovery::the_session_of_a_killed_node_is_restored",
                "recovery::volatile_packets_are_not_replayed",
                "...",
            ],
        ),
        forgetting(
            "replays everything twice",
            Forgetting { missed: Some(|missed| *missed = [missed.clone(), missed.clone()].concat()), ..it() },
            &[
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "recovery::replay_from_a_trimmed_history_fails",
                "recovery::clusters_of_different_names_keep_their_own_sessions",
                "recovery::replay_continues_after_any_offset",
                "recovery::missed_packets_are_replayed_whole_and_in_order",
                "recovery::replay_continues_after_the_offset_of_a_missed_packet",
                "recovery::namespaces_keep_their_own_sessions_and_packets",
                "recovery::number_rooms_are_kept_apart_from_their_texts",
                "recovery::only_plain_broadcasts_are_replayed",
                "recovery::only_packets_for_the_rooms_of_the_session_are_replayed",
                "recovery::the_session_of_a_killed_node_is_restored",
                "recovery::volatile_packets_are_not_replayed",
                "...",
            ],
        ),
        forgetting(
            "replays nothing",
            Forgetting { missed: Some(Vec::clear), ..it() },
            &[
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "recovery::replay_from_a_trimmed_history_fails",
                "recovery::clusters_of_different_names_keep_their_own_sessions",
                "recovery::replay_continues_after_any_offset",
                "recovery::missed_packets_are_replayed_whole_and_in_order",
                "recovery::replay_continues_after_the_offset_of_a_missed_packet",
                "recovery::namespaces_keep_their_own_sessions_and_packets",
                "recovery::number_rooms_are_kept_apart_from_their_texts",
                "recovery::only_plain_broadcasts_are_replayed",
                "recovery::only_packets_for_the_rooms_of_the_session_are_replayed",
                "recovery::the_session_of_a_killed_node_is_restored",
                "recovery::volatile_packets_are_not_replayed",
                "...",
            ],
        ),
        forgetting(
            "replays a hundred at most",
            Forgetting { missed: Some(|missed| missed.truncate(100)), ..it() },
            &[
                "recovery::replay_from_a_trimmed_history_fails",
                "recovery::missed_packets_are_replayed_whole_and_in_order",
            ],
        ),
        forgetting(
            "replays nothing big",
            Forgetting { missed: Some(|missed| missed.retain(|missed| missed.payload.len() < 10_000)), ..it() },
            &["recovery::missed_packets_are_replayed_whole_and_in_order"],
        ),
        forgetting(
            "replays no binary",
            Forgetting { missed: Some(|missed| missed.retain(|missed| !missed.payload.has_binary())), ..it() },
            &["recovery::missed_packets_are_replayed_whole_and_in_order"],
        ),
        forgetting(
            "replays nothing of emitters",
            Forgetting { missed: Some(|missed| missed.retain(|missed| !named(missed, "by-emitter"))), ..it() },
            &["recovery::broadcasts_of_every_node_and_the_emitter_are_replayed"],
        ),
        forgetting(
            "replays other rooms too",
            Forgetting { rooms: Some(|rooms| vec![[rooms, &["z".into()]].concat()]), ..it() },
            &["recovery::only_packets_for_the_rooms_of_the_session_are_replayed"],
        ),
        forgetting(
            "ignores exceptions in a replay",
            Forgetting { rooms: Some(|rooms| rooms.iter().map(|room| vec![room.clone()]).collect()), ..it() },
            &[
                "recovery::a_session_brings_what_was_sent_to_its_socket_and_not_what_its_socket_sent",
                "recovery::only_packets_for_the_rooms_of_the_session_are_replayed",
            ],
        ),
        forgetting(
            "takes number rooms for texts",
            Forgetting {
                rooms: Some(|rooms| vec![rooms.iter().map(|room| Room::new(room.to_text())).collect()]),
                ..it()
            },
            &["recovery::number_rooms_are_kept_apart_from_their_texts"],
        ),
        forgetting(
            "does not report a trimmed history",
            Forgetting { failed: Some(|kind| kind == ErrorKind::HistoryLost), ..it() },
            &["recovery::replay_from_a_trimmed_history_fails"],
        ),
        mutation(
            "replays volatile broadcasts",
            keeping_volatile(),
            &[
                "broadcast::flags_reach_other_nodes_unchanged",
                "emitter::binary_and_flags_arrive_unchanged",
                "recovery::volatile_packets_are_not_replayed",
            ],
        ),
        mutation(
            "replays acknowledged broadcasts",
            keeping_acknowledged(),
            &["recovery::only_plain_broadcasts_are_replayed"],
        ),
    ]
}

/// Volatile broadcasts travel as others do.
fn keeping_volatile() -> Defect {
    Defect::publishing(|_, mut message| {
        if let Some((target, _)) = broadcast(&mut message) {
            target.flags.volatile = None;
        }
        vec![message]
    })
}

/// Acknowledged broadcasts are published a second time, which reaches only the history.
fn keeping_acknowledged() -> Defect {
    Defect::publishing(|_, message| match &message {
        Message::Broadcast { request: Some(_), target, payload }
            if payload.event_name().as_deref() == Some("acknowledged") =>
        {
            let copy = Message::Broadcast { request: None, target: target.clone(), payload: payload.clone() };
            vec![message, copy]
        }
        _ => vec![message],
    })
}

fn offsets() -> Vec<Mutation> {
    let it = Forgetting::default;
    vec![
        forgetting(
            "begins with what was seen last",
            Forgetting { since: Some(one_before), ..it() },
            &[
                "recovery::a_session_brings_what_was_sent_to_its_socket_and_not_what_its_socket_sent",
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "recovery::clusters_of_different_names_keep_their_own_sessions",
                "recovery::replay_continues_after_any_offset",
                "recovery::replay_continues_after_the_offset_of_a_missed_packet",
                "recovery::namespaces_keep_their_own_sessions_and_packets",
                "recovery::only_packets_for_the_rooms_of_the_session_are_replayed",
                "recovery::the_session_of_a_killed_node_is_restored",
            ],
        ),
        forgetting(
            "takes anything for an offset",
            Forgetting { failed: Some(|kind| kind == ErrorKind::Malformed), ..it() },
            &["recovery::an_invalid_offset_is_refused_and_the_session_stays"],
        ),
        forgetting(
            "gives missed packets another's offset",
            Forgetting {
                missed: Some(|missed| {
                    if let Some(first) = missed.first().map(|first| first.offset.clone()) {
                        missed.iter_mut().for_each(|missed| missed.offset = first.clone());
                    }
                }),
                ..it()
            },
            &["recovery::replay_continues_after_the_offset_of_a_missed_packet"],
        ),
        mutation(
            "delivers without offsets",
            Defect::arriving(|(): &mut (), mut delivery| {
                if let Delivery::Message { offset, .. } = &mut delivery {
                    *offset = None;
                }
                vec![(Duration::ZERO, delivery)]
            }),
            &[
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "recovery::a_session_is_restored_only_once",
                "recovery::a_session_persisted_twice_is_restored_as_it_was_last",
                "recovery::replay_from_a_trimmed_history_fails",
                "recovery::an_unknown_session_is_not_restored",
                "recovery::replay_continues_after_any_offset",
                "recovery::missed_packets_are_replayed_whole_and_in_order",
                "recovery::replay_continues_after_the_offset_of_a_missed_packet",
                "recovery::number_rooms_are_kept_apart_from_their_texts",
                "recovery::only_plain_broadcasts_are_replayed",
                "recovery::only_packets_for_the_rooms_of_the_session_are_replayed",
                "recovery::the_session_of_a_killed_node_is_restored",
                "...",
            ],
        ),
        mutation(
            "delivers with the first offset",
            Defect::arriving(|first: &mut Option<Offset>, mut delivery| {
                if let Delivery::Message { offset, .. } = &mut delivery {
                    *first = first.take().or_else(|| offset.clone());
                    *offset = offset.take().and_then(|_| first.clone());
                }
                vec![(Duration::ZERO, delivery)]
            }),
            &["recovery::replay_continues_after_any_offset", "recovery::replay_continues_after_the_present_offset"],
        ),
        mutation("delivers own broadcasts first", own_first(), &["recovery::all_clients_receive_the_same_order"]),
    ]
}

/// Offsets of the memory transport end in a number.
fn one_before(offset: &Offset) -> Offset {
    let Some((epoch, number)) = offset.as_str().split_once('-') else { return offset.clone() };
    let Ok(number) = number.parse::<u64>() else { return offset.clone() };
    Offset::new(format!("{epoch}-{}", number.saturating_sub(1))).unwrap()
}

/// In each batch, a node's own broadcasts come first.
fn own_first() -> Defect {
    Defect::joining(|transport, request| {
        Box::pin(async move {
            let (sender, receiver) = inbox(request.limits, Arc::clone(&request.metrics));
            let mut arriving = transport.join(request).await?;
            tokio::spawn(async move {
                let mut batch = VecDeque::new();
                while arriving.next_batch(&mut batch).await {
                    let (own, others): (Vec<_>, Vec<_>) =
                        batch.drain(..).partition(|delivery| matches!(delivery, Delivery::Stored { .. }));
                    if !sender.push(own.into_iter().chain(others)) {
                        return;
                    }
                }
            });
            Ok(receiver)
        })
    })
}
