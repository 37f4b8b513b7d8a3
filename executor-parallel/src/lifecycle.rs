//! How the executor ends: as one of its core, and by itself.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use executor_core::engine::{Lifecycle, in_handler, wake_waiting, within};
use executor_core::{Report, Shutdown};

use crate::gate::Gate;

impl Gate {
    pub(crate) async fn settle(&self, deadline: Duration) -> u64 {
        if in_handler() {
            return self.count() as u64;
        }
        let drained = self.drained();
        match within(&self.core, deadline, drained).await {
            Some(_) => 0,
            None => self.count() as u64,
        }
    }

    pub(crate) async fn shut_down(&self, mode: Shutdown, deadline: Duration) -> Report {
        let before = self.totals();
        self.refuse(mode);
        let left = self.settle(deadline).await;
        tracing::info!(
            executor = self.environment.name,
            ?mode,
            still_running = left,
            "shut down"
        );
        Report::between(before, self.totals(), left)
    }
}

impl Lifecycle for Gate {
    fn close(
        &self,
        mode: Shutdown,
        deadline: Duration,
    ) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(self.shut_down(mode, deadline))
    }

    fn settle(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(Self::settle(self, deadline))
    }

    fn refuse(&self, mode: Shutdown) {
        Self::close(self, mode == Shutdown::Abort);
        self.end_delayed();
        if mode == Shutdown::Abort {
            wake_waiting(&self.core);
        }
    }

    fn is_idle(&self) -> bool {
        self.count() == 0
    }
}
