//! One cell of the matrix: a private broker, a cluster under load, one fault, and the books at the end.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};
use trunkline_brokers::{Proxy, transports::Transport};

use crate::{
    Failure,
    broker::{Leftovers, TestBroker, refusal},
    clock::Clock,
    fault::Fault,
    injection::Target,
    ledger::Balance,
    node::{Node, Setup, lines},
    outcome::{Figures, GapBook, Measured, Outcome},
    process::Usage,
    promise::{Promise, Window},
    record::Record,
    requests::{self, Verdict},
    timing::seconds,
    transport,
};

/// Traffic before the fault.
const WARM_UP: Duration = Duration::from_secs(2);
/// For so long everything must be right before it counts as right again.
const STABLE: Duration = Duration::from_secs(3);
/// How much longer than it is promised the cell waits until everything is right again.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Time for what is on its way when the traffic has ended.
const DRAIN: Duration = Duration::from_secs(2);
/// How long the broker may take to notice that the nodes have gone: NATS forgets a consumer after 5 s.
const LEAVING: Duration = Duration::from_secs(8);
/// How long a whole cell may take.
const LIMIT: Duration = Duration::from_secs(240);

/// One fault on one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) transport: Transport,
    pub(crate) fault: Fault,
}

/// What all cells have in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) program: PathBuf,
    /// Folder with one folder of logs for each cell.
    pub(crate) logs: PathBuf,
    pub(crate) rate: u32,
}

impl Cell {
    /// Name of its folder and in messages.
    pub(crate) fn name(self) -> String {
        format!("{} {}", self.transport, self.fault.name())
    }

    /// Runs it to its end; what goes wrong is part of the outcome.
    pub(crate) async fn run(self, settings: &Settings) -> Outcome {
        let Self { transport, fault } = self;
        let measured = match refusal(transport, fault) {
            Some(why) => Measured::NotApplicable { not_applicable: why.to_owned() },
            None => match timeout(LIMIT, self.measure(settings)).await {
                Ok(Ok(figures)) => Measured::Run(Box::new(figures)),
                Ok(Err(error)) => Measured::Failed { error: error.to_string() },
                Err(_) => Measured::Failed { error: format!("it took longer than {LIMIT:?}") },
            },
        };
        Outcome { transport, fault, measured }
    }

    async fn measure(self, settings: &Settings) -> Result<Figures, Failure> {
        let folder = settings.logs.join(self.name().replace(' ', "-"));
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => std::fs::create_dir_all(&folder)?,
        }
        let broker = TestBroker::start(self.transport.broker()).await?;
        let mut cluster = Cluster::start(self, settings, &folder, &broker).await?;
        sleep(WARM_UP).await;
        let before = cluster.usage();
        let began = Instant::now();
        let Cluster { nodes, setup } = &mut cluster;
        let healed = Target { broker: &broker, nodes, setup }.inject(self.fault).await?;
        let window = Window { began, healed };
        let recovered = cluster.await_recovery(self.fault).await;
        let after = cluster.usage();
        cluster.unload().await;
        let mut figures = cluster.figures(window, recovered);
        figures.memory = [before, after].map(|usage| usage.memory / 1024);
        figures.files = [before, after].map(|usage| usage.files);
        cluster.stop(&mut figures).await?;
        figures.leftovers = leftovers(&broker).await?;
        let promise = Promise::of(self.transport, self.fault);
        let balance = cluster.setup.record.ledger().balance();
        promise.judge(self.transport.has_history(), window, &balance, &mut figures);
        Ok(figures)
    }
}

/// The nodes of a cell.
struct Cluster {
    nodes: Vec<Node>,
    setup: Arc<Setup>,
}

impl Cluster {
    /// Starts the nodes, and returns when they know each other and are under load.
    async fn start(cell: Cell, settings: &Settings, folder: &Path, broker: &TestBroker) -> Result<Self, Failure> {
        let count = cell.fault.nodes();
        let setup = Arc::new(Setup {
            program: settings.program.clone(),
            folder: folder.to_owned(),
            record: Arc::new(Record::new(count)),
            nodes: count,
            rate: settings.rate,
            max_buffer_size: if cell.fault == Fault::SlowClients { 64 } else { 16_384 },
            clock: (cell.fault == Fault::ClockSteps).then(|| Clock::new(folder)).transpose()?,
        });
        let mut nodes = Vec::with_capacity(count);
        for index in 0..count {
            let proxy = Proxy::start(broker.port()).await?;
            let url = transport::url(cell.transport, &proxy.url(broker.url()));
            let mut node = Node::new(index, Arc::clone(&setup), url, proxy);
            node.start().await?;
            nodes.push(node);
        }
        for node in &nodes {
            node.await_peers().await?;
        }
        nodes.iter_mut().for_each(Node::load);
        Ok(Self { nodes, setup })
    }

    /// The most that any node uses.
    fn usage(&self) -> Usage {
        self.nodes.iter().map(Node::usage).fold(Usage::default(), |most, usage| Usage {
            memory: most.memory.max(usage.memory),
            files: most.files.max(usage.files),
        })
    }

    /// Waits until everything has been right for a while; returns whether that was so in time.
    async fn await_recovery(&self, fault: Fault) -> bool {
        let limit = fault.recovery_limit() + STABLE + TIMEOUT;
        let right = async {
            sleep(STABLE).await;
            while !self.is_right() {
                sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(limit, right).await.is_ok()
    }

    fn is_right(&self) -> bool {
        let record = &self.setup.record;
        let Some(since) = Instant::now().checked_sub(STABLE) else { return false };
        requests::all_right(&record.asked(), self.setup.nodes, since)
            && record.unhealthy().iter().all(|(_, at)| *at < since)
            && record.ledger().is_fresh(since + STABLE / 2)
    }

    /// Ends the traffic, and returns when what was on its way has arrived.
    async fn unload(&mut self) {
        self.nodes.iter_mut().for_each(Node::unload);
        sleep(DRAIN).await;
    }

    fn figures(&self, window: Window, recovered: bool) -> Figures {
        let record = &self.setup.record;
        let balance = record.ledger().balance();
        let losses = record.ledger().describe(&balance.losses, window.began);
        // Copies: what follows takes the locks again.
        let asked = record.asked().clone();
        let wrong: Vec<_> = asked.iter().filter(|asked| asked.verdict == Verdict::Wrong).collect();
        let failed = asked.iter().filter(|asked| asked.verdict == Verdict::Incomplete).count();
        Figures {
            sent: balance.sent,
            refused: balance.refused,
            lost: balance.lost,
            own_lost: balance.own_lost,
            losses,
            repeated: balance.repeated,
            reordered: balance.reordered,
            gaps: self.gaps(&balance, window),
            recovery: recovered.then(|| self.recovery(&balance, window)),
            requests: asked.len(),
            requests_failed: failed,
            wrong: wrong.len(),
            wrong_answers: wrong.iter().take(SHOWN).map(|asked| asked.shown(window.began)).collect(),
            log_lines: self.nodes.iter().map(|node| lines(&node.log())).max().unwrap_or_default(),
            events: self.events(window),
            ..Figures::default()
        }
    }

    /// Seconds from the end of the fault to the last thing that was not right.
    fn recovery(&self, balance: &Balance, window: Window) -> f64 {
        let record = &self.setup.record;
        let unhealthy = record.unhealthy().iter().map(|(_, at)| *at).max();
        let asked = requests::last_trouble(&record.asked(), window.began);
        let last = [balance.last_trouble, unhealthy, asked].into_iter().flatten().max();
        last.map_or(0.0, |last| seconds(last, window.healed).max(0.0))
    }

    fn gaps(&self, balance: &Balance, window: Window) -> Vec<GapBook> {
        let record = &self.setup.record;
        let (ledger, events, begun) = (record.ledger(), record.events(), record.begun());
        let since = window.began.checked_sub(WARM_UP).unwrap_or(window.began);
        let books = balance.missing.iter().map(|(&process, &missing)| {
            let node = ledger.node(process);
            let reported = events.iter().filter(|noted| noted.process == process && noted.event.kind == "gap");
            let others = begun.iter().filter(|(asker, began)| *asker != node && *began >= since);
            GapBook {
                node,
                missing,
                requests: others.count() as u64,
                reported: reported.map(|noted| noted.event.missed).collect(),
            }
        });
        books.filter(|book| book.missing > 0 || !book.reported.is_empty()).collect()
    }

    fn events(&self, window: Window) -> Vec<String> {
        let record = &self.setup.record;
        let (ledger, events) = (record.ledger(), record.events());
        let after = events.iter().filter(|noted| noted.at >= window.began);
        let shown = after.map(|noted| {
            let (at, node) = (seconds(noted.at, window.began), ledger.node(noted.process));
            format!("{at:.1} s, node {node}: {} {}", noted.event.kind, noted.event.text)
        });
        shown.take(MAX_EVENTS).collect()
    }

    async fn stop(&mut self, figures: &mut Figures) -> Result<(), Failure> {
        for node in &mut self.nodes {
            if !node.stop().await? {
                figures.broken.push("a node did not end in time when it was asked to".to_owned());
            }
        }
        // Connections that were abandoned end with their proxy.
        self.nodes.clear();
        Ok(())
    }
}

async fn leftovers(broker: &TestBroker) -> Result<Leftovers, Failure> {
    let until = Instant::now() + LEAVING;
    loop {
        let left = broker.leftovers().await?;
        if left == Leftovers::default() || Instant::now() > until {
            return Ok(left);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Wrong answers in words.
const SHOWN: usize = 5;
const MAX_EVENTS: usize = 60;
