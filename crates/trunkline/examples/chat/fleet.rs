//! The nodes of this process: started together, stopped and started one by one.

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};

use crate::{adapter::ServerConfig, node::Node};

/// The ports of this process and whether a node runs there.
pub(crate) type Running = Vec<(u16, bool)>;

/// What the terminal and the pages may ask for.
#[derive(Debug)]
pub(crate) enum Command {
    /// From the terminal: the node with this place in the list, counted from 1.
    Toggle(usize),
    /// From a page.
    Switch {
        port: u16,
        run: bool,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Quit,
}

/// Owns the nodes. One task drives it, so that two wishes never meet.
pub(crate) struct Fleet {
    host: IpAddr,
    servers: ServerConfig,
    nodes: Vec<Option<Node>>,
    running: watch::Sender<Running>,
    commands: mpsc::Sender<Command>,
    wishes: mpsc::Receiver<Command>,
}

impl Fleet {
    /// Starts a node on each port. All ports are taken first, so that a taken one leaves nothing half started.
    pub(crate) async fn start(host: IpAddr, ports: &[u16], servers: ServerConfig) -> Result<Self, String> {
        let mut listeners = Vec::new();
        for port in ports {
            listeners.push(listen(host, *port).await?);
        }
        let ports = listeners.iter().map(port_of).collect::<io::Result<Vec<_>>>().map_err(|error| error.to_string())?;
        let running = watch::Sender::new(ports.into_iter().map(|port| (port, true)).collect());
        let (commands, wishes) = mpsc::channel(16);
        let mut fleet = Self { host, servers, nodes: Vec::new(), running, commands, wishes };
        for listener in listeners {
            let node = fleet.node(listener).await?;
            fleet.nodes.push(Some(node));
        }
        Ok(fleet)
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.running.borrow().iter().map(|(port, _)| *port).collect()
    }

    pub(crate) fn commands(&self) -> mpsc::Sender<Command> {
        self.commands.clone()
    }

    /// Does what it is asked for until it is asked to quit; then stops all nodes.
    pub(crate) async fn run(mut self) {
        while let Some(command) = self.wishes.recv().await {
            match command {
                Command::Toggle(place) => self.toggle(place).await,
                Command::Switch { port, run, reply } => {
                    // A page on the node that has just stopped does not hear the answer.
                    reply.send(self.switch(port, run).await).ok();
                }
                Command::Quit => break,
            }
        }
        for node in self.nodes.into_iter().flatten() {
            node.stop().await;
        }
    }

    async fn toggle(&mut self, place: usize) {
        let chosen = place.checked_sub(1).and_then(|index| self.running.borrow().get(index).copied());
        let Some((port, running)) = chosen else {
            println!("There is no node {place}.");
            return;
        };
        if let Err(error) = self.switch(port, !running).await {
            println!("{error}");
        }
    }

    async fn switch(&mut self, port: u16, run: bool) -> Result<(), String> {
        let index = self.ports().iter().position(|known| *known == port);
        let index = index.ok_or_else(|| format!("no node of this process uses port {port}"))?;
        match (run, self.nodes[index].take()) {
            (true, None) => self.nodes[index] = Some(self.node(listen(self.host, port).await?).await?),
            (false, Some(node)) => {
                self.show(index, false);
                node.stop().await;
            }
            (_, unchanged) => self.nodes[index] = unchanged,
        }
        self.show(index, run);
        println!("Node {port} {}.", if run { "runs" } else { "has stopped" });
        Ok(())
    }

    fn show(&self, index: usize, run: bool) {
        self.running.send_modify(|running| running[index].1 = run);
    }

    async fn node(&self, listener: TcpListener) -> Result<Node, String> {
        Node::start(listener, &self.servers, self.commands.clone(), self.running.subscribe()).await
    }
}

async fn listen(host: IpAddr, port: u16) -> Result<TcpListener, String> {
    TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            format!(
                "port {port} is taken: stop the program that uses it, or choose other ports, for example --ports 4001"
            )
        }
        _ => format!("cannot listen on {host}, port {port} (--host, --ports): {error}"),
    })
}

fn port_of(listener: &TcpListener) -> io::Result<u16> {
    Ok(listener.local_addr()?.port())
}
