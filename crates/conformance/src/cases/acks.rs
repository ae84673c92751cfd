//! Broadcasts that are acknowledged.

use trunkline_core::{Adapter as _, Payload, Target};

use crate::kit::{Checked, TestCluster, check_eq};

pub(crate) async fn every_client_of_every_node_is_heard(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?, b.socket(["x"]).await?, c.socket(["x"]).await?];
    let acks = a.broadcast_with_ack(Target::room("x"), Payload::event("question", &())?).await?.collect().await?;
    let mut heard: Vec<_> =
        acks.iter().map(|ack| format!("{:?}", ack.as_ref().map(|ack| ack.to_json().text))).collect();
    let mut expected: Vec<_> =
        sockets.iter().map(|socket| format!("{:?}", socket.id_value().map(|id| id.to_json().text))).collect();
    heard.sort_unstable();
    expected.sort_unstable();
    check_eq(heard, expected, "acknowledgements")
}
