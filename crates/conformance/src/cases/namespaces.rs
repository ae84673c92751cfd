//! What happens in one namespace, or cluster, stays there.

use trunkline_core::Target;

use crate::kit::{Checked, TestCluster};

pub(crate) async fn a_broadcast_stays_in_its_namespace(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let [c, d] = t.build().namespace("/admin").join_several().await?;
    let main = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let admin = [c.socket(["x"]).await?, d.socket(["x"]).await?];
    a.emit(Target::room("x"), "main").await?;
    c.emit(Target::room("x"), "admin").await?;
    for node in [&a, &b, &c, &d] {
        node.settle().await?;
    }
    main.iter().try_for_each(|socket| socket.got(&["main"]))?;
    admin.iter().try_for_each(|socket| socket.got(&["admin"]))
}

pub(crate) async fn clusters_of_other_names_hear_nothing(t: TestCluster) -> Checked {
    let other = t.sibling();
    let [a, b] = t.nodes().await?;
    let [c, d] = other.nodes().await?;
    let (here, there) = (b.socket(["x"]).await?, d.socket(["x"]).await?);
    a.emit(Target::all(), "here").await?;
    c.emit(Target::all(), "there").await?;
    a.settle().await?;
    c.settle().await?;
    here.got(&["here"])?;
    there.got(&["there"])
}
