//! Sockets of other nodes, described.

use trunkline_core::{Adapter as _, Target};

use crate::kit::{Checked, TestCluster, check_eq};

pub(crate) async fn describes_the_sockets_of_all_nodes(t: TestCluster) -> Checked {
    let [a, b, c] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["y"]).await?, c.socket([""; 0]).await?];
    let mut fetched: Vec<_> = a.fetch_sockets(Target::all()).await?.into_iter().map(|socket| socket.id).collect();
    let mut expected: Vec<_> = sockets.iter().map(|socket| socket.id().clone()).collect();
    fetched.sort_unstable();
    expected.sort_unstable();
    check_eq(fetched, expected, "ids of the fetched sockets")
}
