//! Properties of every message.

use bytes::Bytes;
use proptest::{option, prelude::*};
use trunkline_core::{
    codec::{self, Body, BodyRef, Decoded, Format},
    model::{Ack, Answer, Heartbeat, Message, Response, SeqNo},
    payload::{Payload, Rules},
};

use crate::{
    FORMATS,
    arbitrary::{body, namespace, node, seq_no},
};

proptest! {
    #[test]
    fn every_encoded_message_is_decoded(
        body in body(), from in node(), namespace in namespace(), seq_no in option::of(seq_no()),
    ) {
        for format in FORMATS {
            let encoded = codec::encode(format, &from, &namespace, &body).unwrap();
            let bytes = Bytes::from(encoded.finish(seq_no, high_water_marks(&body)));
            let expected = Decoded {
                from: Some(from.clone()),
                namespace: Some(namespace.clone()),
                seq_no,
                body: as_received(body.clone(), format, &from),
            };
            prop_assert_eq!(codec::decode(&bytes).unwrap(), expected);
        }
    }

    #[test]
    fn the_data_object_alone_is_the_same(body in body(), from in node()) {
        for format in FORMATS {
            let Some(data) = codec::encode_data(format, &body).unwrap() else { continue };
            let kind = BodyRef::from(&body).kind().unwrap();
            let decoded = codec::decode_data(kind, Some(&from), &data.into()).unwrap();
            prop_assert_eq!(decoded, as_received(body.clone(), format, &from));
        }
    }

    #[test]
    fn peeking_and_decoding_agree_on_every_encoded_message(
        body in body(), from in node(), namespace in namespace(), seq_no in option::of(seq_no()),
    ) {
        for format in FORMATS {
            let bytes = codec::encode(format, &from, &namespace, &body).unwrap().finish(seq_no, high_water_marks(&body)).into();
            let header = codec::peek(&bytes).unwrap();
            prop_assert_eq!(Some(header.kind), BodyRef::from(&body).kind());
            prop_assert_eq!(header.from, Some(from.clone()));
            prop_assert_eq!(header.namespace, Some(namespace.clone()));
            prop_assert_eq!(header.seq_no, seq_no);
            let room = match &body {
                Body::Message(Message::Broadcast { request: None, target, .. }) => target.single_room(),
                _ => None,
            };
            prop_assert_eq!(header.room.as_ref(), room);
        }
    }
}

fn high_water_marks(body: &Body) -> &[SeqNo] {
    match body {
        Body::Message(Message::Heartbeat(Heartbeat { high_water_marks, .. })) => high_water_marks,
        _ => &[],
    }
}

/// JSON turns binary into Node's Buffer objects, @msgpack/msgpack turns an undefined answer into null, sockets live on
/// the sender.
fn as_received(mut body: Body, format: Format, from: &trunkline_core::NodeId) -> Body {
    let convert = |payload: &mut Payload| {
        if format == Format::Json {
            *payload = Payload::from_json(payload.to_json_plain()).unwrap();
        }
    };
    match &mut body {
        Body::Message(Message::Broadcast { payload, .. } | Message::ServerSideEmit { payload, .. }) => convert(payload),
        Body::Response(Response { answer, .. }) => match answer {
            Answer::Sockets(sockets) => {
                for socket in sockets {
                    socket.node = Some(from.clone());
                    socket.data.iter_mut().chain(&mut socket.handshake).for_each(convert);
                    // Null is as good as nothing.
                    socket.data.take_if(|data| *data == null());
                }
            }
            Answer::Ack(Ack { value, .. }) | Answer::ServerSideEmit(value) => match value {
                Some(value) => convert(value),
                None if format == Format::MsgPack(Rules::MsgpackJs) => *value = Some(null()),
                None => {}
            },
            _ => {}
        },
        Body::Message(_) => {}
    }
    body
}

fn null() -> Payload {
    Payload::from_json("null").unwrap()
}
