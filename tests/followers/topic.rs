//! Kafka: brokers of librdkafka's mock cluster, which speak the protocol and keep no disk.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use shardcast::audit::follow::{FollowerState, Kafka, KafkaOptions};

use crate::process::{Dir, SOON};
use crate::world::{World, read_trail, trail_in};

fn topic(cluster: &MockCluster<'_, DefaultProducerContext>) -> Kafka {
    Kafka::new(KafkaOptions {
        brokers: cluster.bootstrap_servers(),
        topic: "audit".into(),
        partition: 0,
        settings: vec![("retry.backoff.ms".into(), "20".into())],
    })
    .unwrap()
}

/// What is in the partition, in its order.
fn read(cluster: &MockCluster<'_, DefaultProducerContext>) -> Vec<(String, String)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "reader");
    let consumer: BaseConsumer = config.create().unwrap();
    let (_, high) = consumer.fetch_watermarks("audit", 0, SOON).unwrap();
    let mut all = TopicPartitionList::new();
    all.add_partition_offset("audit", 0, Offset::Beginning).unwrap();
    consumer.assign(&all).unwrap();
    let mut messages = Vec::new();
    while (messages.len() as i64) < high {
        let message = consumer.poll(SOON).expect("a message").expect("no error");
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        messages.push((text(message.key()), text(message.payload())));
    }
    messages
}

#[test]
fn each_record_is_in_the_partition_once_and_in_order_whatever_the_broker_does() {
    let dir = Dir::new();
    let trail = trail_in(&dir);
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("audit", 1, 1).unwrap();

    let world = World::start(&trail, topic(&cluster));
    world.tell(30);
    world.delivered();
    // Gone amid the trail, and back.
    cluster.broker_down(1).unwrap();
    world.tell(70);
    world.until("that it fails", |stats| matches!(stats.state, FollowerState::Failing(_)));
    cluster.broker_up(1).unwrap();
    world.delivered();
    // What fails for good in librdkafka's eyes, and what it tries again itself.
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT; 3];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    world.tell(40);
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    world.tell(40);
    world.delivered();
    let _ = world.stop();
    // Another process, which forgot how far it was: the end of the partition tells.
    std::fs::remove_dir_all(trail.join("followers")).unwrap();
    let world = World::start(&trail, topic(&cluster));
    world.tell(5);
    let stats = world.stop();
    assert_eq!(stats.refused, 0);

    let (log, lines) = read_trail(&trail);
    let expected: Vec<_> = lines.iter().map(|(seq, line)| (format!("{log}/{seq}"), line.clone())).collect();
    assert_eq!(read(&cluster), expected);
}

#[test]
fn a_partition_in_which_another_writes_is_left_alone() {
    let dir = Dir::new();
    let trail = trail_in(&dir);
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("audit", 1, 1).unwrap();
    let other: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
    other.send(BaseRecord::to("audit").partition(0).key("theirs").payload("x")).map_err(|(error, _)| error).unwrap();
    other.flush(Duration::from_secs(10)).unwrap();

    let world = World::start(&trail, topic(&cluster));
    world.tell(3);
    let stats = world.until("that it stops", |stats| matches!(stats.state, FollowerState::Halted(_)));
    let FollowerState::Halted(why) = stats.state else { unreachable!() };
    assert!(why.contains("\"theirs\"") && why.contains("a partition of its own"), "{why}");
    let messages: BTreeMap<_, _> = read(&cluster).into_iter().collect();
    assert_eq!(messages.len(), 1);
}
