//! The terminal: where the pages are, what to try, and the keys.

use std::{
    io::{IsTerminal, stdin},
    net::IpAddr,
    thread,
};

use tokio::sync::mpsc;

use crate::fleet::Command;

pub(crate) fn introduce(host: IpAddr, ports: &[u16], broker: &str) {
    let nodes = if ports.len() == 1 { "one node".to_owned() } else { format!("{} nodes", ports.len()) };
    // Only the scheme: the rest may hold a password.
    let scheme = broker.split(':').next().unwrap_or_default();
    println!("\nTrunkline chat: {nodes}, one cluster over {scheme}\n");
    for (index, port) in ports.iter().enumerate() {
        println!("  {:>2}  http://{}:{port}", index + 1, shown(host));
    }
    if host.is_unspecified() {
        println!("\n  From a phone in the same network: http://<address of this machine>:{}", ports[0]);
    }
    println!("\nTry this:");
    println!("  - Open two of the pages side by side and talk: each is on a node of its own.");
    println!("  - Make a room, send a picture, write a private message, see who is typing.");
    println!("  - Stop the node of one page: it moves to another node by itself, and the talk goes on.");
    if stdin().is_terminal() {
        println!("\nA number and Enter stops or starts that node; q and Enter, or Ctrl+C, ends the chat.\n");
    } else {
        println!("\nCtrl+C ends the chat.\n");
    }
}

/// Reads keys for as long as the process lives, in a thread because reading a terminal cannot be cancelled.
pub(crate) fn listen(commands: mpsc::Sender<Command>) {
    if !stdin().is_terminal() {
        return;
    }
    thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            let command = match (line.trim(), line.trim().parse()) {
                ("q", _) => Command::Quit,
                (_, Ok(place)) => Command::Toggle(place),
                _ => {
                    println!("A number stops or starts that node, q ends the chat.");
                    continue;
                }
            };
            if commands.blocking_send(command).is_err() {
                return;
            }
        }
    });
}

fn shown(host: IpAddr) -> String {
    match host {
        host if host.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(host) => format!("[{host}]"),
        IpAddr::V4(host) => host.to_string(),
    }
}
