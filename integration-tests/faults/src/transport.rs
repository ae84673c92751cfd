//! What a cell needs to know of a transport.

use trunkline_brokers::transports::Transport;

/// The transports of the table. What a fault does to MongoDB does not depend on how its collection forgets.
pub(crate) fn all() -> Vec<Transport> {
    Transport::all().iter().copied().filter(|transport| *transport != Transport::MongodbTtl).collect()
}

/// URL of a node, from the URL at which it reaches the broker.
pub(crate) fn url(transport: Transport, broker: &str) -> String {
    let more: &[&str] = match transport {
        Transport::RedisStreams => &["max_len=100000"],
        // Otherwise its clients go to the address that the replica set names, past the proxy.
        Transport::Mongodb | Transport::MongodbTtl => &["directConnection=true"],
        Transport::PostgresHistory => &["history_messages=100000"],
        _ => &[],
    };
    transport.url(broker, more)
}
