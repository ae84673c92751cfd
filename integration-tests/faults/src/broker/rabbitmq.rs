//! RabbitMQ.

use trunkline_brokers::RabbitMq;

use super::{Action, Leftovers, lines};
use crate::Failure;

pub(super) async fn perform(server: &RabbitMq, action: Action) -> Result<(), Failure> {
    let commands: &[&[&str]] = match action {
        Action::CloseConnections => &[&["close_all_connections", "closed by the administrator"]],
        Action::Fill => &[&["set_disk_free_limit", "100000GB"]],
        Action::RaiseAlarm => &[&["set_vm_memory_high_watermark", "absolute", "1"]],
        Action::ForbidWrites => &[&["set_permissions", "guest", ".*", "", ".*"]],
        Action::DeleteData => return delete_queues(server).await,
        Action::Heal => &[
            &["set_disk_free_limit", "50MB"],
            &["set_vm_memory_high_watermark", "0.6"],
            &["set_permissions", "guest", ".*", ".*", ".*"],
        ],
    };
    for command in commands {
        server.ctl(command).await?;
    }
    Ok(())
}

async fn delete_queues(server: &RabbitMq) -> Result<(), Failure> {
    for queue in names(&server.ctl(&["list_queues", "name"]).await?) {
        // It may be gone with its connection by now.
        let _ = server.ctl(&["delete_queue", queue]).await;
    }
    Ok(())
}

/// Names in a list, which begins with the name of its column.
fn names(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().skip(1).map(str::trim).filter(|name| !name.is_empty())
}

pub(super) async fn leftovers(server: &RabbitMq) -> Result<Leftovers, Failure> {
    let connections = lines(&server.ctl(&["list_connections", "pid"]).await?).saturating_sub(1);
    let queues = server.ctl(&["list_queues", "name", "type"]).await?;
    let subscriptions = names(&queues).filter(|queue| !queue.ends_with("stream")).count();
    Ok(Leftovers { connections, subscriptions })
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn the_head_of_a_list_is_no_name() {
        assert!(names("name\na\nb\n").eq(["a", "b"]));
        assert!(names("").eq([""; 0]));
    }
}
