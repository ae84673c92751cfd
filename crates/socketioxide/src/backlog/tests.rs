use std::cell::RefCell;

use socketioxide_core::{Value, packet::PacketData};

use super::{socket::QUICK_RETRIES, *};

/// Sockets with bounded buffers, drained by hand.
#[derive(Default)]
struct Buffers {
    space: RefCell<HashMap<Sid, usize>>,
    got: RefCell<Vec<(Sid, String)>>,
}

impl Buffers {
    fn with(socket: Sid, space: usize) -> Self {
        let buffers = Self::default();
        buffers.drain(socket, space);
        buffers
    }

    fn drain(&self, socket: Sid, space: usize) {
        self.space.borrow_mut().insert(socket, space);
    }

    fn got(&self, socket: Sid) -> Vec<String> {
        self.got.borrow().iter().filter(|(to, _)| *to == socket).map(|(_, name)| name.clone()).collect()
    }
}

impl SocketSink for Buffers {
    fn send(&self, socket: Sid, packet: &Queued) -> SendOutcome {
        match self.space.borrow_mut().get_mut(&socket) {
            None => SendOutcome::Closed,
            Some(0) => SendOutcome::Full,
            Some(space) => {
                *space -= 1;
                self.got.borrow_mut().push((socket, name(packet)));
                SendOutcome::Sent
            }
        }
    }
}

fn name(packet: &Queued) -> String {
    match packet {
        Queued::Event(Packet { inner: PacketData::Event(Value::Str(text, None), _), .. }, _) => text.to_string(),
        other => format!("{other:?}"),
    }
}

fn packet(number: usize) -> Packet {
    Packet::event("/", Value::Str(number.to_string().into(), None))
}

fn event(number: usize) -> Queued {
    Queued::Event(packet(number), None)
}

fn stored(number: usize) -> Queued {
    Queued::Event(packet(number), Some(offset(number)))
}

fn offset(number: usize) -> Offset {
    Offset::new(number.to_string()).unwrap()
}

fn backlogs(packets: usize) -> Backlogs {
    Backlogs::new(BacklogLimits { packets, max_hold: Duration::ZERO, ..BacklogLimits::default() })
}

fn numbers(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

const QUEUED: Offered = Offered::Queued { hold_back: false };

#[test]
fn packets_for_a_full_buffer_wait_in_order() {
    let (socket, backlogs, now) = (Sid::new(), backlogs(100), Instant::now());
    let buffers = Buffers::with(socket, 2);
    let offered: Vec<_> = (0..5).map(|number| backlogs.offer(socket, event(number), &buffers)).collect();
    assert_eq!(offered, [Offered::Sent, Offered::Sent, QUEUED, QUEUED, QUEUED]);
    buffers.drain(socket, 1);
    assert_eq!(backlogs.flush(now, &buffers), NextFlush::Soon);
    assert_eq!(backlogs.offer(socket, event(5), &buffers), QUEUED, "not past those that wait");
    buffers.drain(socket, 100);
    assert_eq!(backlogs.flush(now, &buffers), NextFlush::OnChange);
    assert_eq!(buffers.got(socket), numbers(0..6));
    assert!(!backlogs.has(socket));
}

#[test]
fn packets_beyond_the_limit_are_dropped_and_reported() {
    let (socket, backlogs) = (Sid::new(), backlogs(2));
    let buffers = Buffers::with(socket, 0);
    let offered: Vec<_> = (0..4).map(|number| backlogs.offer(socket, event(number), &buffers)).collect();
    assert_eq!(offered, [QUEUED, QUEUED, Offered::Dropped, Offered::Dropped]);
    assert_eq!(backlogs.len(), 2);
}

#[test]
fn all_sockets_together_have_a_limit_of_bytes() {
    let limits = BacklogLimits { total_bytes: 1000, ..BacklogLimits::default() };
    let backlogs = Backlogs::new(limits);
    let sockets: Vec<_> = (0..20).map(|_| Sid::new()).collect();
    let buffers = Buffers::default();
    sockets.iter().for_each(|socket| buffers.drain(*socket, 0));
    let waiting = sockets.iter().filter(|socket| backlogs.offer(**socket, event(1), &buffers) == QUEUED).count();
    assert_eq!(waiting, 1000 / 129);
    sockets.iter().for_each(|socket| buffers.drain(*socket, 1));
    assert_eq!(backlogs.flush(Instant::now(), &buffers), NextFlush::OnChange);
    assert!(!backlogs.is_full());
    assert_eq!(backlogs.lock().bytes, 0);
}

#[test]
fn a_stuck_socket_is_retried_less_and_less_often_and_delays_no_other_socket() {
    let (stuck, other, backlogs) = (Sid::new(), Sid::new(), backlogs(100));
    let buffers = Buffers::with(stuck, 0);
    backlogs.offer(stuck, event(0), &buffers);
    let mut now = Instant::now();
    for _ in 1..QUICK_RETRIES {
        assert_eq!(backlogs.flush(now, &buffers), NextFlush::Soon);
    }
    for pause in [1, 2, 4, 8, 16, 16] {
        let next = now + Duration::from_millis(pause);
        assert_eq!(backlogs.flush(now, &buffers), NextFlush::At(next));
        now = next;
    }
    buffers.drain(other, 0);
    backlogs.offer(other, event(1), &buffers);
    buffers.drain(other, 1);
    backlogs.flush(now, &buffers);
    assert_eq!(buffers.got(other), numbers([1]));
}

#[test]
fn packets_for_a_closed_socket_are_discarded() {
    let (socket, backlogs) = (Sid::new(), backlogs(100));
    backlogs.offer(socket, event(0), &Buffers::with(socket, 0));
    assert_eq!(backlogs.flush(Instant::now(), &Buffers::default()), NextFlush::OnChange);
    assert_eq!((backlogs.len(), backlogs.lock().bytes), (0, 0));
}

#[test]
fn deliveries_are_held_back_for_a_fast_socket_and_only_briefly_for_a_slow_one() {
    let limits = BacklogLimits { packets: 10, max_hold: HOLD * 2, ..BacklogLimits::default() };
    let (socket, backlogs) = (Sid::new(), Backlogs::new(limits));
    let buffers = Buffers::with(socket, 0);
    let offered: Vec<_> = (0..9).map(|number| backlogs.offer(socket, event(number), &buffers)).collect();
    let held = Offered::Queued { hold_back: true };
    assert_eq!(offered[4..], [QUEUED, held, held, QUEUED, QUEUED]);
    for round in 0..50 {
        buffers.drain(socket, 1);
        backlogs.flush(Instant::now(), &buffers);
        let expected = if round == 49 { held } else { QUEUED };
        assert_eq!(backlogs.offer(socket, event(0), &buffers), expected, "{round}");
    }
}

#[test]
fn a_paused_socket_gets_missed_events_first_and_no_event_twice() {
    let (socket, backlogs, now) = (Sid::new(), backlogs(100), Instant::now());
    let buffers = Buffers::with(socket, 100);
    let later = now + Duration::from_secs(10);
    backlogs.pause(socket, later);
    for packet in [stored(3), event(100), stored(4)] {
        assert_eq!(backlogs.offer(socket, packet, &buffers), QUEUED);
    }
    assert_eq!(backlogs.flush(now, &buffers), NextFlush::At(later));
    assert!(backlogs.catch_up(socket, (1..=3).map(|number| (packet(number), offset(number))).collect(), later));
    backlogs.resume(socket);
    assert_eq!(backlogs.flush(now, &buffers), NextFlush::At(later));
    assert_eq!(buffers.got(socket), numbers([1, 2, 3, 100, 4]));
    // This node was behind the history: what it receives late is known already.
    assert_eq!(backlogs.offer(socket, stored(2), &buffers), Offered::Duplicate);
    assert_eq!(backlogs.offer(socket, stored(5), &buffers), Offered::Sent);
    assert_eq!(backlogs.flush(later, &buffers), NextFlush::OnChange);
}

#[test]
fn an_overflow_during_a_pause_requires_reading_the_history_again() {
    let (socket, backlogs, now) = (Sid::new(), backlogs(1), Instant::now());
    let buffers = Buffers::with(socket, 100);
    backlogs.pause(socket, now + Duration::from_secs(10));
    assert_eq!(backlogs.offer(socket, stored(1), &buffers), QUEUED);
    assert_eq!(backlogs.offer(socket, stored(2), &buffers), Offered::Dropped);
    assert!(!backlogs.catch_up(socket, Vec::new(), now));
    assert!(backlogs.catch_up(socket, (1..=2).map(|number| (packet(number), offset(number))).collect(), now));
    backlogs.resume(socket);
    assert_eq!(backlogs.flush(now, &buffers), NextFlush::OnChange);
    assert_eq!(buffers.got(socket), numbers([1, 2]));
}

#[test]
fn a_pause_ends_at_its_deadline() {
    let (socket, backlogs, now) = (Sid::new(), backlogs(100), Instant::now());
    let buffers = Buffers::with(socket, 100);
    let until = now + Duration::from_secs(10);
    backlogs.pause(socket, until);
    backlogs.offer(socket, event(7), &buffers);
    assert_eq!(backlogs.flush(until, &buffers), NextFlush::OnChange);
    assert_eq!(buffers.got(socket), numbers([7]));
}
