//! Event to prediction at a steady rate, from when the event was due; beside a Kafka Streams application that does the same.
//! Broker, clients and whoever's turn it is share both cores. The broker has carried the same job for a while before anything is
//! measured.
//!
//! ```text
//!   start -> 1,000/s, "just started" -> a warm-up -> 1,000/s -> 10,000/s -> stop         for each side
//! ```
//! Beside it what an event takes from the same producer over the same broker to the same subscriber without a worker between
//! them, which it does twice on its way to a prediction.

use crate::contest::{self, Bench, Contest, Figure, Side, Subjects, Terms};
use crate::cores::Placement;
use crate::events::{self, Purchase};
use crate::generator::Generator;
use crate::job::{self, Job};
use crate::paced::{self, Latencies, Load, Subscriber, Subscription};
use crate::process::Program;
use crate::scratch::Scratch;
use crate::streams::Application;
use crate::worker::{Place, Worker};
use anyhow::Result;
use kafka_client::Message;
use serde::Deserialize;
use std::fmt::{self, Display};
use tests::kafka::KafkaBroker;

/// Models, each of which predicts at each event.
const MODELS: usize = 3;
/// A stretch of events.
#[derive(Clone, Copy)]
struct Stretch {
    rate: usize,
    seconds: usize,
}
const JUST_STARTED: Stretch = Stretch {
    rate: 1_000,
    seconds: 5,
};
/// By its end Java's compilers have seen tens of thousands of events.
const WARM_UP: Stretch = Stretch {
    rate: 4_000,
    seconds: 15,
};
const MEASURED: [Stretch; 2] = [
    Stretch {
        rate: 1_000,
        seconds: 15,
    },
    Stretch {
        rate: 10_000,
        seconds: 10,
    },
];
/// Before a rate is measured without a worker.
const STRAIGHT_WARM_UP: Stretch = Stretch {
    rate: 1_000,
    seconds: 5,
};
/// Rounds beside the peer, and pairs of two builds.
const ROUNDS: usize = 1;
const PAIRS: usize = 3;

impl Stretch {
    fn events(self) -> usize {
        self.rate * self.seconds
    }
}

/// How a job is set up.
#[derive(Clone, Copy)]
struct Setting {
    guarantee: &'static str,
    /// said in the name of its rows; empty for the defaults of both
    name: &'static str,
    worker: &'static [(&'static str, &'static str)],
    connector: &'static [(&'static str, &'static str)],
    streams: &'static [(&'static str, &'static str)],
}

const SETTINGS: [Setting; 4] = [
    Setting {
        guarantee: "at_least_once",
        name: "",
        worker: &[],
        connector: &[],
        streams: &[],
    },
    Setting {
        guarantee: "exactly_once_v2",
        name: "",
        worker: &[],
        connector: &[],
        streams: &[],
    },
    Setting {
        guarantee: "at_least_once",
        name: ", linger 0 ms",
        worker: &[("producer.linger.ms", "0")],
        connector: &[],
        streams: &[("linger_ms", "0")],
    },
    Setting {
        guarantee: "exactly_once_v2",
        name: ", linger 0 ms, commits every 20 ms",
        worker: &[("producer.linger.ms", "0")],
        connector: &[("inference.commit.interval.ms", "20")],
        streams: &[("linger_ms", "0"), ("conf.commit.interval.ms", "20")],
    },
];

/// The peer: a model runs at once, which is its faster mode here.
#[derive(Clone, Copy, Debug)]
struct PerEvent;

impl Display for PerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kafka Streams + ONNX Runtime, per event")
    }
}

/// Measures both guarantees, with the defaults and with settings for low latency.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench {
        subjects,
        rounds,
        purchases,
        scratch,
        report,
        ..
    } = bench;
    let broker = KafkaBroker::start_for_measuring().await?;
    let bootstrap = broker.bootstrap();
    let catalog_rows = job::create_catalog(&bootstrap).await?;
    let mut latency = Latency {
        bootstrap,
        scratch,
        purchases,
        catalog_rows,
        setting: SETTINGS[0],
        runs: 0,
    };
    // Two builds are compared as users run them.
    let settings = match subjects {
        Subjects::BesidePeers(_) => SETTINGS.as_slice(),
        Subjects::TwoBuilds(..) => &SETTINGS[..2],
    };
    println!("    a run that does not count, for the broker");
    latency.run(&Side::Millrace(subjects.first().clone()), 0).await?;
    for setting in settings {
        latency.setting = *setting;
        let terms = Terms {
            name: format!("latency, {}{}", setting.guarantee, setting.name),
            cores: Placement::Both,
            peers: vec![PerEvent],
            rounds: ROUNDS,
            pairs: PAIRS,
        };
        contest::hold(&mut latency, &terms, subjects, *rounds, report).await?;
    }
    if let Subjects::TwoBuilds(..) = subjects {
        return Ok(());
    }
    // Last: a broker that carries something else for a while is no longer as warm for the job.
    let figures = latency.without_worker().await?;
    let name = "latency, producer to subscriber without a worker";
    report.add(name, Placement::Both, &["no worker".to_owned()], &[vec![figures]]);
    Ok(())
}

struct Latency<'a> {
    bootstrap: String,
    scratch: &'a Scratch,
    purchases: &'a [Purchase],
    catalog_rows: usize,
    setting: Setting,
    runs: usize,
}

impl Contest for Latency<'_> {
    type Peer = PerEvent;

    async fn run(&mut self, side: &Side<PerEvent>, _round: usize) -> Result<Vec<Figure>> {
        self.runs += 1;
        let name = format!("latency-{}", self.runs);
        let job = Job {
            input: format!("{name}.purchases"),
            models: MODELS,
            guarantee: self.setting.guarantee,
            options: self
                .setting
                .connector
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            key: "event.n",
            name,
        };
        let directory = self.scratch.folder()?;
        let (program, subscription) = match side {
            Side::Millrace(build) => {
                let topics = job.outputs();
                job::create_topics(
                    &self.bootstrap,
                    &[std::slice::from_ref(&job.input), topics.as_slice()].concat(),
                )
                .await?;
                let place = Place {
                    bootstrap: &self.bootstrap,
                    directory: directory.path(),
                    placement: Placement::Both,
                    group: &job.name,
                };
                let mut worker = Worker::start(&build.binary, place, self.setting.worker).await?;
                job::put_resources(&mut worker, &job, self.catalog_rows).await?;
                job::start(&worker, &job).await?;
                worker.until_running(&job.name).await?;
                let identify = paced::by_topic_and_key;
                (
                    worker.process,
                    Subscription {
                        topics,
                        predictions: MODELS,
                        identify,
                    },
                )
            }
            Side::Peer(PerEvent) => {
                let topics = vec![job.output("all")];
                job::create_topics(&self.bootstrap, &[job.input.clone(), job.output("all")]).await?;
                let application = Application {
                    id: &job.name,
                    models: &job.models_of_streams(),
                    batch: 1,
                    guarantee: job.guarantee,
                    events: &job.input,
                    products: events::CATALOG,
                    predictions: &job.output("all"),
                    table_in_memory: true,
                    more: self.setting.streams,
                };
                let mut streams = application.start(&self.bootstrap, directory.path(), Placement::Both)?;
                streams.until_running().await?;
                let identify = by_model_and_event;
                (
                    streams.process,
                    Subscription {
                        topics,
                        predictions: MODELS,
                        identify,
                    },
                )
            }
        };
        let figures = tokio::task::block_in_place(|| self.stretches(&program, &job.input, subscription))?;
        drop(program);
        job::delete_topics(&self.bootstrap, &job.name).await?;
        Ok(figures)
    }
}

impl Latency<'_> {
    fn stretches(&self, program: &Program, input: &str, subscription: Subscription) -> Result<Vec<Figure>> {
        let all = [JUST_STARTED, WARM_UP].into_iter().chain(MEASURED);
        let subscriber = Subscriber::start(&self.bootstrap, subscription, all.map(Stretch::events).sum())?;
        let generator = Generator::start(&self.bootstrap)?;
        let load = Load {
            generator: &generator,
            purchases: self.purchases,
            topic: input,
            keyed_by_number: false,
        };
        let mut next = 0;
        let mut run = |stretch: Stretch| {
            let numbers = next..next + stretch.events();
            next = numbers.end;
            subscriber.run(&load, numbers, stretch.rate)
        };
        let just_started = run(JUST_STARTED)?;
        run(WARM_UP)?;
        let mut figures = Vec::new();
        for stretch in MEASURED {
            let before = program.usage()?;
            let latencies = run(stretch)?;
            let cpu_seconds = program.usage()?.cpu_seconds - before.cpu_seconds;
            let rate = stretch.rate;
            figures.extend(quantiles(&latencies, rate));
            let of_a_core = cpu_seconds / stretch.seconds as f64 * 100.0;
            figures.push(Figure::cost(format!("{rate}/s, CPU"), "% of a core", of_a_core));
        }
        let rate = JUST_STARTED.rate;
        figures.push(Figure::cost(
            format!("{rate}/s, just started, p99"),
            "ms",
            just_started.quantile_ms(0.99),
        ));
        figures.push(Figure::peak_memory(program.usage()?.peak_bytes));
        Ok(figures)
    }

    async fn without_worker(&self) -> Result<Vec<Figure>> {
        const STRAIGHT: &str = "straight";
        job::create_topics(&self.bootstrap, &[STRAIGHT.to_owned()]).await?;
        tokio::task::block_in_place(|| {
            let stretches = MEASURED.map(|stretch| [STRAIGHT_WARM_UP, stretch]).concat();
            let subscription = Subscription {
                topics: vec![STRAIGHT.to_owned()],
                predictions: 1,
                identify: paced::by_topic_and_key,
            };
            let events = stretches.iter().map(|stretch| stretch.events()).sum();
            let subscriber = Subscriber::start(&self.bootstrap, subscription, events)?;
            let generator = Generator::start(&self.bootstrap)?;
            let load = Load {
                generator: &generator,
                purchases: self.purchases,
                topic: STRAIGHT,
                keyed_by_number: true,
            };
            let (mut next, mut figures) = (0, Vec::new());
            for (index, stretch) in stretches.into_iter().enumerate() {
                let numbers = next..next + stretch.events();
                next = numbers.end;
                let latencies = subscriber.run(&load, numbers, stretch.rate)?;
                if index % 2 == 1 {
                    figures.extend(quantiles(&latencies, stretch.rate));
                }
            }
            Ok(figures)
        })
    }
}

fn quantiles(latencies: &Latencies, rate: usize) -> Vec<Figure> {
    let mut figures: Vec<Figure> = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)]
        .into_iter()
        .map(|(name, quantile)| Figure::cost(format!("{rate}/s, {name}"), "ms", latencies.quantile_ms(quantile)))
        .collect();
    let late = latencies.late_micros.value_at_quantile(0.99) as f64 / 1e3;
    figures.push(Figure::cost(format!("{rate}/s, generator late, p99"), "ms", late));
    figures
}

/// Records of the Kafka Streams application.
fn by_model_and_event(_: &Subscription, message: &Message) -> Option<(usize, usize)> {
    #[derive(Deserialize)]
    struct Value<'a> {
        model: &'a str,
        event: usize,
    }
    let value: Value<'_> = serde_json::from_slice(message.value()?).ok()?;
    let model = ["logistic", "mlp", "lightgbm"]
        .iter()
        .position(|model| *model == value.model)?;
    Some((model, value.event))
}
