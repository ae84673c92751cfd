//! A transport that breaks one promise.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use futures_util::future::BoxFuture;
use trunkline_conformance::faults::{Fault, Faulty};
use trunkline_core::{
    Backend, Capabilities, Message, NodeId, NodeKey, Response, Result, Transport,
    model::Delivery,
    transport::{Health, Inbox, JoinRequest},
};

type Publish = dyn Fn(Arc<dyn Transport>, NodeKey, Message) -> BoxFuture<'static, Result<()>> + Send + Sync;
type Send_ = dyn Fn(NodeKey, NodeId, Response) -> Vec<(NodeId, Response)> + Send + Sync;
type Join = dyn Fn(Arc<dyn Transport>, JoinRequest) -> BoxFuture<'static, Result<Inbox>> + Send + Sync;
type Leave = dyn Fn(Arc<dyn Transport>, NodeKey) -> BoxFuture<'static, Result<()>> + Send + Sync;
type Close = dyn Fn(Arc<dyn Transport>) -> BoxFuture<'static, ()> + Send + Sync;

/// What a transport does wrong. Calls without a defect are forwarded.
#[derive(Clone, Default)]
pub(crate) struct Defect {
    pub(crate) arrive: Option<Arrive>,
    pub(crate) publish: Option<Arc<Publish>>,
    pub(crate) send: Option<Arc<Send_>>,
    pub(crate) join: Option<Arc<Join>>,
    pub(crate) leave: Option<Arc<Leave>>,
    pub(crate) close: Option<Arc<Close>>,
    pub(crate) promise: Option<fn(Capabilities) -> Capabilities>,
}

impl Defect {
    /// Deliveries are changed on their way to a node, with a state per node that begins as its default.
    pub(crate) fn arriving<S, F>(change: F) -> Self
    where
        S: Default + Send + Sync + 'static,
        F: Fn(&mut S, Delivery) -> Vec<(Duration, Delivery)> + Send + Sync + 'static,
    {
        Self { arrive: Some(Arrive::new(change)), ..Self::default() }
    }

    /// Messages that arrive are changed.
    pub(crate) fn rewriting(change: impl Fn(&mut Message) + Send + Sync + 'static) -> Self {
        Self::arriving(move |(): &mut (), mut delivery| {
            if let Delivery::Message { message, .. } = &mut delivery {
                change(message);
            }
            vec![(Duration::ZERO, delivery)]
        })
    }

    /// Some messages do not arrive.
    pub(crate) fn losing(is_lost: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        Self::arriving(move |(): &mut (), delivery| match &delivery {
            Delivery::Message { message, .. } if is_lost(message) => Vec::new(),
            _ => vec![(Duration::ZERO, delivery)],
        })
    }

    /// Answers that arrive are changed, multiplied or lost.
    pub(crate) fn answering(change: impl Fn(Response) -> Vec<Response> + Send + Sync + 'static) -> Self {
        Self::arriving(move |(): &mut (), delivery| match delivery {
            Delivery::Response { from, response } => change(response)
                .into_iter()
                .map(|response| (Duration::ZERO, Delivery::Response { from: from.clone(), response }))
                .collect(),
            delivery => vec![(Duration::ZERO, delivery)],
        })
    }

    /// Other messages are published than those requested.
    pub(crate) fn publishing(change: impl Fn(&NodeKey, Message) -> Vec<Message> + Send + Sync + 'static) -> Self {
        Self::publishing_with(move |transport, from, message| {
            let messages = change(&from, message);
            Box::pin(async move {
                for message in messages {
                    transport.publish(&from, message).await?;
                }
                Ok(())
            })
        })
    }

    pub(crate) fn publishing_with(
        publish: impl Fn(Arc<dyn Transport>, NodeKey, Message) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        Self { publish: Some(Arc::new(publish)), ..Self::default() }
    }

    pub(crate) fn sending(
        send: impl Fn(NodeKey, NodeId, Response) -> Vec<(NodeId, Response)> + Send + Sync + 'static,
    ) -> Self {
        Self { send: Some(Arc::new(send)), ..Self::default() }
    }

    pub(crate) fn joining(
        join: impl Fn(Arc<dyn Transport>, JoinRequest) -> BoxFuture<'static, Result<Inbox>> + Send + Sync + 'static,
    ) -> Self {
        Self { join: Some(Arc::new(join)), ..Self::default() }
    }

    pub(crate) fn leaving(
        leave: impl Fn(Arc<dyn Transport>, NodeKey) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        Self { leave: Some(Arc::new(leave)), ..Self::default() }
    }

    pub(crate) fn closing(
        close: impl Fn(Arc<dyn Transport>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { close: Some(Arc::new(close)), ..Self::default() }
    }

    /// Puts the defect into a backend.
    pub(crate) fn into(self, mut backend: Backend) -> Backend {
        let transport = match self.arrive.clone() {
            Some(arrive) => Arc::new(Faulty::new(backend.transport, 0, arrive)),
            None => backend.transport,
        };
        backend.transport = Arc::new(Broken { transport, defect: self });
        backend
    }
}

/// A change of deliveries on the way to a node.
pub(crate) struct Arrive {
    start: Arc<dyn Fn() -> Box<Pass> + Send + Sync>,
    pass: Mutex<Option<Box<Pass>>>,
}

type Pass = dyn FnMut(Delivery) -> Vec<(Duration, Delivery)> + Send + Sync;

impl Arrive {
    fn new<S, F>(change: F) -> Self
    where
        S: Default + Send + Sync + 'static,
        F: Fn(&mut S, Delivery) -> Vec<(Duration, Delivery)> + Send + Sync + 'static,
    {
        let change = Arc::new(change);
        let start = move || -> Box<Pass> {
            let (change, mut state) = (Arc::clone(&change), S::default());
            Box::new(move |delivery| change(&mut state, delivery))
        };
        Self { start: Arc::new(start), pass: Mutex::default() }
    }
}

/// A clone begins with the default state.
impl Clone for Arrive {
    fn clone(&self) -> Self {
        Self { start: Arc::clone(&self.start), pass: Mutex::default() }
    }
}

impl fmt::Debug for Arrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Arrive")
    }
}

impl Fault for Arrive {
    const IN_ORDER: bool = false;

    fn pass(&mut self, _: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        let start = &self.start;
        self.pass.get_mut().unwrap().get_or_insert_with(|| start())(delivery)
    }
}

/// A transport with a defect.
struct Broken {
    transport: Arc<dyn Transport>,
    defect: Defect,
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broken")
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Transport for Broken {
    fn capabilities(&self) -> Capabilities {
        let capabilities = self.transport.capabilities();
        self.defect.promise.map_or(capabilities, |promise| promise(capabilities))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        match &self.defect.join {
            Some(join) => join(Arc::clone(&self.transport), request).await,
            None => self.transport.join(request).await,
        }
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        match self.defect.publish {
            Some(_) => Ok(Some(message)),
            None => self.transport.try_publish(from, message),
        }
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        match &self.defect.publish {
            Some(publish) => publish(Arc::clone(&self.transport), from.clone(), message).await,
            None => self.transport.publish(from, message).await,
        }
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        let Some(send) = &self.defect.send else { return self.transport.send(from, to, response).await };
        for (to, response) in send(from.clone(), to.clone(), response.clone()) {
            self.transport.send(from, &to, &response).await?;
        }
        Ok(())
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        match &self.defect.leave {
            Some(leave) => leave(Arc::clone(&self.transport), node.clone()).await,
            None => self.transport.leave(node).await,
        }
    }

    async fn flush(&self) -> Result<()> {
        self.transport.flush().await
    }

    fn health(&self) -> Health {
        self.transport.health()
    }

    async fn close(&self) {
        match &self.defect.close {
            Some(close) => close(Arc::clone(&self.transport)).await,
            None => self.transport.close().await,
        }
    }
}

/// State of a defect, per node.
#[derive(Default)]
pub(crate) struct PerNode<S>(Mutex<HashMap<NodeKey, S>>);

impl<S: Default> PerNode<S> {
    pub(crate) fn with<R>(&self, node: &NodeKey, change: impl FnOnce(&mut S) -> R) -> R {
        change(self.0.lock().unwrap().entry(node.clone()).or_default())
    }
}
