//! One partition of a topic of Kafka: in order, each record once.
//!
//! The key of a message is `LOG/SEQ`, its payload the line. After a restart, and after a failure, the end of the partition
//! tells what came through.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::{Offset, TopicPartitionList};

use super::super::trail::Sealed;
use super::destination::{Batch, DeliveryError, Destination, Standing};

/// Which topic, and where.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port,host:port`.
    pub brokers: String,
    /// A topic in which nobody else writes to the partition.
    pub topic: String,
    /// Which partition of it.
    pub partition: i32,
    /// Any settings of librdkafka, such as `security.protocol`: above ours.
    pub settings: Vec<(String, String)>,
}

impl std::fmt::Debug for KafkaOptions {
    /// Settings may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KafkaOptions({} {}/{})", self.brokers, self.topic, self.partition)
    }
}

/// A [`Destination`] in Kafka.
pub struct Kafka {
    options: KafkaOptions,
    producer: BaseProducer<Reports>,
    consumer: BaseConsumer,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.options.fmt(f)
    }
}

/// What became of the messages of a batch.
#[derive(Debug, Default)]
struct Reports(Mutex<Reported>);

#[derive(Debug, Default)]
struct Reported {
    acknowledged: usize,
    failed: Option<KafkaError>,
}

impl Reports {
    fn take(&self) -> Reported {
        std::mem::take(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut reported = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match result {
            Ok(_) => reported.acknowledged += 1,
            Err((error, _)) => reported.failed = Some(error.clone()),
        }
    }
}

impl Kafka {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// A setting is none of librdkafka's.
    pub fn new(options: KafkaOptions) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &options.brokers).set("client.id", "shardcast");
        for (key, value) in &options.settings {
            config.set(key, value);
        }
        let mut producer = config.clone();
        // In order and once, as long as the producer lives; all replicas that are in sync have it.
        producer.set("enable.idempotence", "true").set("acks", "all");
        producer.set("message.timeout.ms", PATIENCE.as_millis().to_string());
        let producer = producer.create_with_context(Reports::default())?;
        config.set("group.id", "shardcast-end-of-trail").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "false");
        Ok(Self { producer, consumer: config.create()?, options })
    }

    /// The last message of the partition.
    fn end(&self, log: &str, known: u64) -> Result<Standing, DeliveryError> {
        let (topic, partition) = (&self.options.topic, self.options.partition);
        let (low, high) = self.consumer.fetch_watermarks(topic, partition, PATIENCE).map_err(DeliveryError::later)?;
        if low >= high {
            // Nothing yet, or nothing any more: a topic keeps as long as it was told to.
            return Ok(Standing { seq: if high == 0 { 0 } else { known }, hash: None });
        }
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset(topic, partition, Offset::Offset(high - 1)).map_err(DeliveryError::later)?;
        self.consumer.assign(&assigned).map_err(DeliveryError::later)?;
        let message = match self.consumer.poll(PATIENCE) {
            Some(message) => message.map_err(DeliveryError::later)?,
            None => return Err(DeliveryError::later("the end of its partition cannot be read")),
        };
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let seq = key.rsplit_once('/').filter(|(of, _)| *of == log).and_then(|(_, seq)| seq.parse().ok());
        let hash = message.payload().and_then(Sealed::read).map(|sealed| sealed.hash);
        seq.map(|seq| Standing { seq, hash }).ok_or_else(|| {
            DeliveryError::contradiction(format!(
                "partition {partition} of {topic} ends with a message {key:?} that is not of this trail: give it a partition of its own"
            ))
        })
    }

    /// Sends what is behind `after` and waits until it is acknowledged.
    fn send(&self, batch: &Batch<'_>, after: u64) -> Result<(), DeliveryError> {
        let records = batch.records.iter().filter(|record| record.seq > after);
        let mut sent = 0;
        for record in records {
            let key = format!("{}/{}", batch.log, record.seq);
            let message = BaseRecord::to(&self.options.topic).partition(self.options.partition);
            let message = message.key(&key).payload(&record.line[..]);
            self.producer.send(message).map_err(|(error, _)| refused_or_later(error))?;
            sent += 1;
        }
        self.producer.flush(PATIENCE).map_err(DeliveryError::later)?;
        let Reported { acknowledged, failed } = self.producer.context().take();
        match failed {
            Some(error) => Err(refused_or_later(error)),
            None if acknowledged == sent => Ok(()),
            None => Err(DeliveryError::later(format!("{acknowledged} of {sent} messages were acknowledged"))),
        }
    }
}

impl Destination for Kafka {
    fn last(&mut self, log: &str, known: u64) -> Result<Option<Standing>, DeliveryError> {
        self.end(log, known).map(Some)
    }

    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), DeliveryError> {
        // A part of it may have come through.
        let after = if batch.again { self.end(batch.log, 0)?.seq } else { 0 };
        let sent = self.send(batch, after);
        if sent.is_err() {
            // What waits must not come through behind what is sent next.
            self.producer.purge(PurgeConfig::default().queue().inflight());
            let _ = self.producer.flush(PATIENCE);
            let _ = self.producer.context().take();
        }
        sent
    }
}

fn refused_or_later(error: KafkaError) -> DeliveryError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
            DeliveryError::refused(error)
        }
        _ => DeliveryError::later(error),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
