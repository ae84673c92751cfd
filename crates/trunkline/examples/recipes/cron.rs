//! Emits from a program that has no clients and ends at once, such as a cron job.

use trunkline::{Emitter, Payload, Target};

use crate::Result;

pub(crate) async fn run(broker: &str) -> Result<()> {
    let backend = trunkline::connect(broker).await?;
    let emitter = Emitter::new(&backend);
    for number in 1..=3 {
        emitter.emit(Target::room("lobby"), Payload::event("said", &(format!("report {number}"),))?).await?;
    }
    // An emit is done when it is queued. This waits until the broker has everything, or says why not: without it, the
    // process would end first.
    emitter.close().await?;
    Ok(())
}
