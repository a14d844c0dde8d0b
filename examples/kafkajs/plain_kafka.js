// A click and a list that knows of it, with kafkajs alone: npm ci && node plain_kafka.js BROKER [PREFIX]
import { randomUUID } from "node:crypto";
import { Kafka, logLevel, Partitioners } from "kafkajs";

const [broker, prefix = ""] = process.argv.slice(2);
const usage = "usage: node plain_kafka.js BROKER [PREFIX]";
const end = (code, text) => { console.error(text); process.exit(code); };
if (!broker || process.argv.length > 4) end(2, usage);

const user = `visitor-${randomUUID().slice(0, 8)}`;
const kafka = new Kafka({ brokers: [broker], logLevel: logLevel.NOTHING, retry: { retries: 2 } });
// kafkajs' default chooses partitions as Java's client does (murmur2 of the key). Its LegacyPartitioner does not.
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, allowAutoTopicCreation: false });
const answers = kafka.consumer({ groupId: user, maxWaitTimeInMs: 100, allowAutoTopicCreation: false });
const topic = `${prefix}recommendations`;
const request_id = randomUUID();

async function send(name, body) {
  const messages = [{ key: user, value: JSON.stringify(body) }];
  const [at] = await producer.send({ topic: prefix + name, acks: -1, messages });
  return at;
}

try {
  await Promise.all([producer.connect(), answers.connect()]);
  await answers.subscribe({ topic });
} catch (error) {
  end(2, `${broker}, ${topic}: ${error.message}\n${usage}`);
}
const listening = new Promise((go) => answers.on(answers.events.FETCH, go)); // from now on
const found = new Promise((take) => answers.run({
  autoCommit: false,
  eachMessage: async ({ message }) => {
    const answer = JSON.parse(message.value);
    if (answer.request_id === request_id) take(answer);
  },
}));
await listening;
const click = await send("events", { user_id: user, item_id: "50", type: "click" });
console.log(`events[${click.partition}]@${click.baseOffset}`);
await send("requests", { request_id, user_id: user, k: 10, after: { [click.partition]: Number(click.baseOffset) } });
const giveUp = setTimeout(() => end(1, "no answer: does a serving worker run?"), 15_000);
console.log(JSON.stringify((await found).items.map((item) => item.item_id)));
clearTimeout(giveUp);
await Promise.all([producer.disconnect(), answers.disconnect()]);
