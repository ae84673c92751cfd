use std::cell::RefCell;

use super::*;

/// Sockets with bounded buffers, drained by hand.
#[derive(Default)]
struct Buffers {
    rooms: RefCell<HashMap<Sid, usize>>,
    got: RefCell<Vec<(Sid, String)>>,
}

impl Buffers {
    fn with(socket: Sid, room: usize) -> Self {
        let buffers = Self::default();
        buffers.drain(socket, room);
        buffers
    }

    fn drain(&self, socket: Sid, room: usize) {
        self.rooms.borrow_mut().insert(socket, room);
    }

    fn got(&self, socket: Sid) -> Vec<String> {
        self.got.borrow().iter().filter(|(to, _)| *to == socket).map(|(_, name)| name.clone()).collect()
    }
}

impl Outlet for Buffers {
    fn send(&self, socket: Sid, waiting: &Waiting) -> Sent {
        match self.rooms.borrow_mut().get_mut(&socket) {
            None => Sent::Gone,
            Some(0) => Sent::Full,
            Some(room) => {
                *room -= 1;
                self.got.borrow_mut().push((socket, name(waiting)));
                Sent::Yes
            }
        }
    }
}

fn name(waiting: &Waiting) -> String {
    match waiting {
        Waiting::Event(Packet { inner: PacketData::Event(Value::Str(text, None), _), .. }, _) => text.to_string(),
        other => format!("{other:?}"),
    }
}

fn packet(number: usize) -> Packet {
    Packet::event("/", Value::Str(number.to_string().into(), None))
}

fn event(number: usize) -> Waiting {
    Waiting::Event(packet(number), None)
}

fn stored(number: usize) -> Waiting {
    Waiting::Event(packet(number), Some(offset(number)))
}

fn offset(number: usize) -> Offset {
    Offset::new(number.to_string()).unwrap()
}

fn lanes(packets: usize) -> Lanes {
    Lanes::new(BacklogLimits { packets, patience: Duration::ZERO, ..BacklogLimits::default() })
}

fn numbers(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

const WAITS: Given = Given::Waits { hold_back: false };

#[test]
fn what_a_full_buffer_refuses_waits_and_keeps_its_order() {
    let (socket, lanes, now) = (Sid::new(), lanes(100), Instant::now());
    let buffers = Buffers::with(socket, 2);
    let given: Vec<_> = (0..5).map(|number| lanes.give(socket, event(number), &buffers)).collect();
    assert_eq!(given, [Given::Sent, Given::Sent, WAITS, WAITS, WAITS]);
    buffers.drain(socket, 1);
    assert_eq!(lanes.flush(now, &buffers), Next::Soon);
    assert_eq!(lanes.give(socket, event(5), &buffers), WAITS, "not past those that wait");
    buffers.drain(socket, 100);
    assert_eq!(lanes.flush(now, &buffers), Next::Never);
    assert_eq!(buffers.got(socket), numbers(0..6));
    assert!(!lanes.is_open(socket));
}

#[test]
fn what_does_not_fit_is_dropped_and_said() {
    let (socket, lanes) = (Sid::new(), lanes(2));
    let buffers = Buffers::with(socket, 0);
    let given: Vec<_> = (0..4).map(|number| lanes.give(socket, event(number), &buffers)).collect();
    assert_eq!(given, [WAITS, WAITS, Given::Dropped, Given::Dropped]);
    assert_eq!(lanes.waiting(), 2);
}

#[test]
fn all_sockets_together_have_a_limit_too() {
    let limits = BacklogLimits { total_bytes: 1000, ..BacklogLimits::default() };
    let lanes = Lanes::new(limits);
    let sockets: Vec<_> = (0..20).map(|_| Sid::new()).collect();
    let buffers = Buffers::default();
    sockets.iter().for_each(|socket| buffers.drain(*socket, 0));
    let waiting = sockets.iter().filter(|socket| lanes.give(**socket, event(1), &buffers) == WAITS).count();
    assert_eq!(waiting, 1000 / 129);
    sockets.iter().for_each(|socket| buffers.drain(*socket, 1));
    assert_eq!(lanes.flush(Instant::now(), &buffers), Next::Never);
    assert!(!lanes.is_full());
    assert_eq!(lanes.lock().bytes, 0);
}

#[test]
fn a_stuck_socket_is_tried_less_and_less_often_and_holds_up_no_other() {
    let (stuck, other, lanes) = (Sid::new(), Sid::new(), lanes(100));
    let buffers = Buffers::with(stuck, 0);
    lanes.give(stuck, event(0), &buffers);
    let mut now = Instant::now();
    for _ in 1..QUICK_RETRIES {
        assert_eq!(lanes.flush(now, &buffers), Next::Soon);
    }
    for pause in [1, 2, 4, 8, 16, 16] {
        let next = now + Duration::from_millis(pause);
        assert_eq!(lanes.flush(now, &buffers), Next::At(next));
        now = next;
    }
    buffers.drain(other, 0);
    lanes.give(other, event(1), &buffers);
    buffers.drain(other, 1);
    lanes.flush(now, &buffers);
    assert_eq!(buffers.got(other), numbers([1]));
}

#[test]
fn what_waits_for_a_closed_socket_is_forgotten() {
    let (socket, lanes) = (Sid::new(), lanes(100));
    lanes.give(socket, event(0), &Buffers::with(socket, 0));
    assert_eq!(lanes.flush(Instant::now(), &Buffers::default()), Next::Never);
    assert_eq!((lanes.waiting(), lanes.lock().bytes), (0, 0));
}

#[test]
fn patience_is_spent_on_a_slow_socket_and_earned_by_a_fast_one() {
    let limits = BacklogLimits { packets: 10, patience: PAUSE * 2, ..BacklogLimits::default() };
    let (socket, lanes) = (Sid::new(), Lanes::new(limits));
    let buffers = Buffers::with(socket, 0);
    let given: Vec<_> = (0..9).map(|number| lanes.give(socket, event(number), &buffers)).collect();
    let patient = Given::Waits { hold_back: true };
    assert_eq!(given[4..], [WAITS, patient, patient, WAITS, WAITS]);
    for round in 0..50 {
        buffers.drain(socket, 1);
        lanes.flush(Instant::now(), &buffers);
        let expected = if round == 49 { patient } else { WAITS };
        assert_eq!(lanes.give(socket, event(0), &buffers), expected, "{round}");
    }
}

#[test]
fn a_held_socket_gets_what_it_missed_first_and_nothing_twice() {
    let (socket, lanes, now) = (Sid::new(), lanes(100), Instant::now());
    let buffers = Buffers::with(socket, 100);
    let later = now + Duration::from_secs(10);
    lanes.hold(socket, later);
    for waiting in [stored(3), event(100), stored(4)] {
        assert_eq!(lanes.give(socket, waiting, &buffers), WAITS);
    }
    assert_eq!(lanes.flush(now, &buffers), Next::At(later));
    assert!(lanes.catch_up(socket, (1..=3).map(|number| (packet(number), offset(number))).collect(), later));
    lanes.release(socket);
    assert_eq!(lanes.flush(now, &buffers), Next::At(later));
    assert_eq!(buffers.got(socket), numbers([1, 2, 3, 100, 4]));
    // This node was behind the history: what it receives late is known already.
    assert_eq!(lanes.give(socket, stored(2), &buffers), Given::Repeated);
    assert_eq!(lanes.give(socket, stored(5), &buffers), Given::Sent);
    assert_eq!(lanes.flush(later, &buffers), Next::Never);
}

#[test]
fn an_overflow_while_held_asks_for_another_look_at_the_history() {
    let (socket, lanes, now) = (Sid::new(), lanes(1), Instant::now());
    let buffers = Buffers::with(socket, 100);
    lanes.hold(socket, now + Duration::from_secs(10));
    assert_eq!(lanes.give(socket, stored(1), &buffers), WAITS);
    assert_eq!(lanes.give(socket, stored(2), &buffers), Given::Dropped);
    assert!(!lanes.catch_up(socket, Vec::new(), now));
    assert!(lanes.catch_up(socket, (1..=2).map(|number| (packet(number), offset(number))).collect(), now));
    lanes.release(socket);
    assert_eq!(lanes.flush(now, &buffers), Next::Never);
    assert_eq!(buffers.got(socket), numbers([1, 2]));
}

#[test]
fn a_hold_that_nobody_ends_ends_by_itself() {
    let (socket, lanes, now) = (Sid::new(), lanes(100), Instant::now());
    let buffers = Buffers::with(socket, 100);
    let until = now + Duration::from_secs(10);
    lanes.hold(socket, until);
    lanes.give(socket, event(7), &buffers);
    assert_eq!(lanes.flush(until, &buffers), Next::Never);
    assert_eq!(buffers.got(socket), numbers([7]));
}
