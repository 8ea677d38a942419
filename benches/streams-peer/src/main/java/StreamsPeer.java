import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.TimestampedKeyValueStore;
import org.apache.kafka.streams.state.ValueAndTimestamp;

/**
 * events -> features (GlobalKTable of products, RocksDB store of each household) -> N ONNX models -> predictions.
 *
 * <p>Arguments are key=value; see {@link #main}. One prediction record per event and subscribed model.
 */
public final class StreamsPeer {
  static final int FEATURES = 12;
  static final long DAY = 86_400, STATE_TTL = 90 * DAY, BASKET_TTL = DAY;
  static final String STATE = "household", PRODUCTS = "products-store";
  static final JsonFactory JSON = new JsonFactory();

  static final LongAdder events = new LongAdder();
  static volatile long firstEvent, firstForward;
  static final LongAdder[] stage = new LongAdder[6];
  static final String[] STAGES = {"parse_event", "catalogue_get", "state_get_put", "ort_run", "encode", "forward"};
  static boolean profile;

  record Model(String tenant, String name, OrtSession session, int repeat) {}

  record Product(String type, boolean privateBrand) {}

  static final class Event {
    long id, household, basket, product, seconds;
    float quantity, retailDisc;
    double sales;
    int hour;

    /** Reads a purchase; ids are texts of digits, its time is yyyy-MM-ddTHH:mm:ssZ. */
    void parse(byte[] json) throws IOException {
      try (JsonParser p = JSON.createParser(json)) {
        p.nextToken();
        for (String f; (f = p.nextFieldName()) != null; ) {
          JsonToken t = p.nextToken();
          switch (f) {
            case "n" -> id = p.getLongValue();
            case "household_id" -> household = digits(p);
            case "basket_id" -> basket = digits(p);
            case "product_id" -> product = digits(p);
            case "quantity" -> quantity = (float) p.getDoubleValue();
            case "sales_value" -> sales = p.getDoubleValue();
            case "retail_disc" -> retailDisc = (float) p.getDoubleValue();
            case "transaction_timestamp" -> {
              char[] c = p.getTextCharacters();
              int o = p.getTextOffset();
              hour = two(c, o + 11);
              seconds = days(two(c, o) * 100 + two(c, o + 2), two(c, o + 5), two(c, o + 8)) * 86400L
                  + hour * 3600 + two(c, o + 14) * 60 + two(c, o + 17);
            }
            default -> { }
          }
        }
      }
    }

    static long digits(JsonParser p) throws IOException {
      char[] c = p.getTextCharacters();
      long n = 0;
      for (int at = p.getTextOffset(), end = at + p.getTextLength(); at < end; at++) n = n * 10 + c[at] - '0';
      return n;
    }

    static int two(char[] c, int at) {
      return (c[at] - '0') * 10 + c[at + 1] - '0';
    }

    /** Days since 1970-01-01 of a date of the Gregorian calendar. */
    static long days(int y, int m, int d) {
      if (m <= 2) y--;
      int era = y / 400, yoe = y - era * 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
      return era * 146097L + yoe * 365L + yoe / 4 - yoe / 100 + doy - 719468;
    }
  }

  static final class ProductSerde {
    static Serde<Product> serde() {
      return Serdes.serdeFrom((t, v) -> { throw new UnsupportedOperationException(); }, (t, v) -> read(v));
    }

    static Product read(byte[] json) {
      if (json == null) return null;
      String type = null, brand = null;
      try (JsonParser p = JSON.createParser(json)) {
        p.nextToken();
        for (String f; (type == null || brand == null) && (f = p.nextFieldName()) != null; ) {
          p.nextToken();
          if (f.equals("brand")) brand = p.getText();
          else if (f.equals("product_type")) type = p.getText();
        }
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
      return new Product(type == null ? "" : type, "Private".equals(brand));
    }
  }

  /** The rows waiting for one model (capacity 1: run at once), and the native tensors over them. */
  static final class Runner {
    final Model model;
    final FloatBuffer in, out;
    final OnnxTensor[] inT, outT;
    final List<Map<String, OnnxTensor>> ins = new ArrayList<>(), outs = new ArrayList<>();
    final long[] ids;
    final Record<byte[], byte[]>[] rows;
    final byte[] prefix;
    final String inputName;
    int n;

    @SuppressWarnings("unchecked")
    Runner(Model model, int capacity) {
      this.model = model;
      in = direct(capacity * FEATURES);
      out = direct(capacity * 2);
      inT = new OnnxTensor[capacity + 1];
      outT = new OnnxTensor[capacity + 1];
      ids = new long[capacity];
      rows = new Record[capacity];
      inputName = model.session.getInputNames().iterator().next();
      for (int i = 0; i <= capacity; i++) {
        ins.add(null);
        outs.add(null);
      }
      prefix = ("{\"tenant\":\"" + model.tenant + "\",\"model\":\"" + model.name + "\",\"event\":")
          .getBytes(StandardCharsets.UTF_8);
    }

    static FloatBuffer direct(int floats) {
      return ByteBuffer.allocateDirect(floats * 4).order(ByteOrder.nativeOrder()).asFloatBuffer();
    }

    void add(float[] x, long id, Record<byte[], byte[]> row) {
      in.put(n * FEATURES, x);
      ids[n] = id;
      rows[n++] = row;
    }

    /** Scores the waiting rows into {@link #out}; tensors are made once per row count and reused. */
    void run() throws OrtException {
      if (ins.get(n) == null) {
        OrtEnvironment env = OrtEnvironment.getEnvironment();
        inT[n] = OnnxTensor.createTensor(env, in.slice(0, n * FEATURES), new long[] {n, FEATURES});
        outT[n] = OnnxTensor.createTensor(env, out.slice(0, n * 2), new long[] {n, 2});
        ins.set(n, Map.of(inputName, inT[n]));
        outs.set(n, Map.of("probabilities", outT[n]));
      }
      for (int i = 0; i < model.repeat; i++) {
        model.session.run(ins.get(n), Set.of(), outs.get(n)).close();
      }
    }
  }

  static final class Scorer implements Processor<byte[], byte[], byte[], byte[]> {
    final List<Model> models;
    final int batch, flushMs;
    final Event e = new Event();
    final float[] x = new float[FEATURES];
    final List<Runner> runners = new ArrayList<>();
    ProcessorContext<byte[], byte[]> context;
    KeyValueStore<Bytes, byte[]> state;
    TimestampedKeyValueStore<byte[], Product> products;

    Scorer(List<Model> models, int batch, int flushMs) {
      this.models = models;
      this.batch = batch;
      this.flushMs = flushMs;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      state = context.getStateStore(STATE);
      products = context.getStateStore(PRODUCTS);
      for (Model m : models) runners.add(new Runner(m, batch));
      if (batch > 1) {
        context.schedule(Duration.ofMillis(flushMs), PunctuationType.WALL_CLOCK_TIME, t -> {
          for (Runner r : runners) score(r);
        });
      }
    }

    @Override
    public void process(Record<byte[], byte[]> r) {
      if (firstEvent == 0) firstEvent = System.nanoTime();
      try {
        long t0 = now();
        e.parse(r.value());
        long t1 = lap(0, t0);
        ValueAndTimestamp<Product> v = products.get(Long.toString(e.product).getBytes(StandardCharsets.UTF_8));
        Product p = v == null ? null : v.value();
        long t2 = lap(1, t1);
        features(p);
        lap(2, t2);
        for (Runner m : runners) {
          m.add(x, e.id, r);
          if (m.n == batch) score(m);
        }
        events.increment();
      } catch (IOException ex) {
        throw new UncheckedIOException(ex);
      }
    }

    /**
     * Fills x (configs/demo/models/FEATURES.md) and brings the household's state up to date: its purchases with the basket at
     * hand, and each product type it buys. State is there until its time to live has passed since its last event.
     */
    void features(Product p) {
      Bytes householdKey = Bytes.wrap(ByteBuffer.allocate(9).putLong(e.household).array()); // a type has no NUL
      int count = 0, lines = 0;
      double spend = 0, total = 0;
      byte[] h = state.get(householdKey);
      if (h != null) {
        ByteBuffer buf = ByteBuffer.wrap(h);
        long age = e.seconds - buf.getLong();
        if (age < STATE_TTL) {
          count = buf.getInt();
          spend = buf.getDouble();
          if (buf.getLong() == e.basket && age < BASKET_TTL) {
            lines = buf.getInt();
            total = buf.getDouble();
          }
        }
      }
      state.put(householdKey, ByteBuffer.allocate(40).putLong(e.seconds).putInt(count + 1).putDouble(spend + e.sales)
          .putLong(e.basket).putInt(lines + 1).putDouble(total + e.sales).array());
      float since = -1;
      int typeCount = 0;
      double typeSpend = 0;
      if (p != null) { // a product that the catalog does not have has no type
        byte[] type = p.type.getBytes(StandardCharsets.UTF_8);
        Bytes typeKey = Bytes.wrap(ByteBuffer.allocate(8 + type.length).putLong(e.household).put(type).array());
        byte[] s = state.get(typeKey);
        if (s != null) {
          ByteBuffer buf = ByteBuffer.wrap(s);
          long age = e.seconds - buf.getLong();
          if (age < STATE_TTL) {
            since = (float) (age / (double) DAY);
            typeCount = buf.getInt();
            typeSpend = buf.getDouble();
          }
        }
        state.put(typeKey, ByteBuffer.allocate(20).putLong(e.seconds).putInt(typeCount + 1).putDouble(typeSpend + e.sales).array());
      }
      x[0] = e.quantity;
      x[1] = (float) e.sales;
      x[2] = e.retailDisc;
      x[3] = e.hour;
      x[4] = p != null && p.privateBrand ? 1 : 0;
      x[5] = typeCount;
      x[6] = since;
      x[7] = typeCount == 0 ? 0 : (float) (typeSpend / typeCount);
      x[8] = count;
      x[9] = count == 0 ? 0 : (float) (spend / count);
      x[10] = (float) total;
      x[11] = lines;
    }

    void score(Runner m) {
      if (m.n == 0) return;
      try {
        long t = now();
        m.run();
        t = lap(3, t);
        for (int i = 0; i < m.n; i++) {
          byte[] value = encode(m.prefix, m.ids[i], m.out.get(i * 2 + 1));
          t = lap(4, t);
          context.forward(m.rows[i].withValue(value));
          t = lap(5, t);
          m.rows[i] = null;
        }
        m.n = 0;
        if (firstForward == 0) firstForward = System.currentTimeMillis();
      } catch (OrtException ex) {
        throw new IllegalStateException(ex);
      }
    }

    /** {"tenant":..,"model":..,"event":ID,"score":0.dddddd} */
    static byte[] encode(byte[] prefix, long id, float score) {
      String tail = id + ",\"score\":" + (score >= 0.9999995f ? "1.000000" : "0.");
      int micros = Math.round(score * 1e6f), n = prefix.length + tail.length();
      boolean one = micros >= 1_000_000;
      byte[] out = new byte[n + (one ? 1 : 7)];
      System.arraycopy(prefix, 0, out, 0, prefix.length);
      tail.getBytes(0, tail.length(), out, prefix.length);
      if (!one) {
        for (int i = n + 5; i >= n; i--, micros /= 10) out[i] = (byte) ('0' + micros % 10);
      }
      out[out.length - 1] = '}';
      return out;
    }

    static long now() {
      return profile ? System.nanoTime() : 0;
    }

    static long lap(int s, long since) {
      if (!profile) return 0;
      long t = System.nanoTime();
      stage[s].add(t - since);
      return t;
    }
  }

  /** Logs restores: the GlobalKTable's bootstrap and the household store's restore from its changelog. */
  static final class Restores implements StateRestoreListener {
    final Map<TopicPartition, Long> begun = new ConcurrentHashMap<>();
    volatile double cpuBegun;

    @Override
    public void onRestoreStart(TopicPartition tp, String store, long from, long to) {
      begun.put(tp, System.nanoTime());
      cpuBegun = cpu();
    }

    @Override
    public void onBatchRestored(TopicPartition tp, String store, long end, long n) {}

    @Override
    public void onRestoreEnd(TopicPartition tp, String store, long n) {
      double s = (System.nanoTime() - begun.get(tp)) / 1e9;
      say("{\"restored\":\"%s\",\"store\":\"%s\",\"rows\":%d,\"seconds\":%.3f,\"cpu_s\":%.3f,\"since_jvm_start_s\":%.3f}",
          tp, store, n, s, cpu() - cpuBegun, sinceJvmStart(System.currentTimeMillis()));
    }
  }

  static double sinceJvmStart(long millis) {
    return (millis - ManagementFactory.getRuntimeMXBean().getStartTime()) / 1e3;
  }

  static double cpu() {
    return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
        .getProcessCpuTime() / 1e9;
  }

  static long peakRssMb() throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmHWM")) return Long.parseLong(line.replaceAll("\\D", "")) / 1024;
    }
    return -1;
  }

  static synchronized void say(String f, Object... a) {
    System.out.println(String.format(Locale.ROOT, f, a));
    System.out.flush();
  }

  static OrtSession session(Path onnx) throws OrtException {
    OrtSession.SessionOptions o = new OrtSession.SessionOptions();
    o.setIntraOpNumThreads(1);
    o.setInterOpNumThreads(1);
    o.setExecutionMode(OrtSession.SessionOptions.ExecutionMode.SEQUENTIAL);
    o.setOptimizationLevel(OrtSession.SessionOptions.OptLevel.ALL_OPT);
    return OrtEnvironment.getEnvironment().createSession(onnx.toString(), o);
  }

  /** "lr", "lr+mlp+lgbm", with "*10" for ten tenants; "lgbm@100" runs a model 100 times per event. */
  static List<Model> models(Path dir, String spec) throws OrtException {
    List<Model> out = new ArrayList<>();
    int tenant = 0;
    for (String part : spec.split(",")) {
      String[] s = part.split("\\*");
      for (int i = s.length > 1 ? Integer.parseInt(s[1]) : 1; i > 0; i--, tenant++) {
        for (String name : s[0].split("\\+")) {
          String[] m = name.split("@");
          out.add(new Model("t" + tenant, m[0], session(dir.resolve(m[0] + ".onnx")),
              m.length > 1 ? Integer.parseInt(m[1]) : 1));
        }
      }
    }
    return out;
  }

  public static void main(String[] args) throws Exception {
    Map<String, String> a = new HashMap<>();
    for (String s : args) a.put(s.substring(0, s.indexOf('=')), s.substring(s.indexOf('=') + 1));
    String id = a.getOrDefault("id", "app");
    int batch = Integer.parseInt(a.getOrDefault("batch", "1"));
    int flushMs = Integer.parseInt(a.getOrDefault("flush_ms", "10"));
    long target = Long.parseLong(a.getOrDefault("target", "0")); // stop after so many events; 0: run on
    boolean eos = a.getOrDefault("eos", "false").equals("true");
    profile = a.getOrDefault("profile", "false").equals("true");
    for (int i = 0; i < stage.length; i++) stage[i] = new LongAdder();
    List<Model> models = models(Path.of(a.get("models_dir")), a.getOrDefault("models", "lr"));

    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, id);
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, a.get("bootstrap"));
    p.put(StreamsConfig.STATE_DIR_CONFIG, a.get("state_dir"));
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, a.getOrDefault("threads", "1"));
    p.put(StreamsConfig.NUM_STANDBY_REPLICAS_CONFIG, a.getOrDefault("standby", "0"));
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, eos ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
    p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
    p.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 5000);
    if (batch > 1) p.put(StreamsConfig.POLL_MS_CONFIG, flushMs); // punctuations wait for poll() to return
    p.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), a.getOrDefault("linger_ms", "5"));
    p.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 128 << 10);
    p.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64L << 20);
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
    p.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), a.getOrDefault("reset", "earliest"));
    for (Map.Entry<String, String> e : a.entrySet()) { // any Kafka setting: conf.NAME=VALUE
      if (e.getKey().startsWith("conf.")) p.put(e.getKey().substring(5), e.getValue());
    }

    StreamsBuilder b = new StreamsBuilder();
    b.globalTable(a.getOrDefault("products", "products"),
        Consumed.with(Serdes.ByteArray(), ProductSerde.serde()),
        a.getOrDefault("global", "rocksdb").equals("mem")
            ? Materialized.<byte[], Product>as(Stores.inMemoryKeyValueStore(PRODUCTS))
            : Materialized.<byte[], Product>as(Stores.persistentTimestampedKeyValueStore(PRODUCTS)));
    b.addStateStore(Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(STATE), Serdes.Bytes(), Serdes.ByteArray())
        .withCachingEnabled().withLoggingEnabled(Map.of()));
    b.stream(a.getOrDefault("events", "events"), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
        .process(() -> new Scorer(models, batch, flushMs), STATE)
        .to(a.getOrDefault("predictions", "predictions"), Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));

    KafkaStreams streams = new KafkaStreams(b.build(p), p);
    streams.setGlobalStateRestoreListener(new Restores());
    streams.setStateListener((now, was) ->
        say("{\"state\":\"%s\",\"since_jvm_start_s\":%.3f,\"epoch_ms\":%d}", now, sinceJvmStart(System.currentTimeMillis()),
            System.currentTimeMillis()));
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(30))));
    streams.start();

    long halfAt = 0, half = 0;
    double cpu0 = -1, cpuHalf = 0;
    while (true) {
      Thread.sleep(5);
      long n = events.sum();
      if (n > 0 && cpu0 < 0) {
        cpu0 = cpu();
        say("{\"first_prediction_since_jvm_start_s\":%.3f,\"cpu_s\":%.2f}", sinceJvmStart(firstForward), cpu0);
      }
      if (target > 0 && half == 0 && n >= target / 2) {
        half = n;
        halfAt = System.nanoTime();
        cpuHalf = cpu();
        for (LongAdder l : stage) l.reset();
      }
      if ((target > 0 && n >= target) || (a.containsKey("exit_when_running") && streams.state() == KafkaStreams.State.RUNNING)) {
        long end = System.nanoTime();
        double cpuEnd = cpu(), s = (end - firstEvent) / 1e9;
        if (n > 0) {
          say("{\"id\":\"%s\",\"events\":%d,\"seconds\":%.2f,\"events_per_s\":%.0f,\"second_half_events_per_s\":%.0f,"
              + "\"cpu_s_per_million\":%.2f,\"second_half_cpu_s_per_million\":%.2f,\"cpu_s_to_first_event\":%.2f}",
              id, n, s, n / s, (n - half) / ((end - halfAt) / 1e9), (cpuEnd - cpu0) / n * 1e6,
              (cpuEnd - cpuHalf) / (n - half) * 1e6, cpu0);
        }
        if (profile) {
          StringBuilder line = new StringBuilder("{\"second_half_profile_us_per_event\":{");
          for (int i = 0; i < stage.length; i++) {
            line.append(String.format(Locale.ROOT, "%s\"%s\":%.3f", i > 0 ? "," : "", STAGES[i], stage[i].sum() / 1e3 / (n - half)));
          }
          say(line.append("}}").toString().replace("%", "%%"));
        }
        long c = System.nanoTime();
        streams.close(Duration.ofSeconds(60));
        say("{\"close_s\":%.2f,\"cpu_s_total\":%.2f,\"peak_rss_mb\":%d}", (System.nanoTime() - c) / 1e9, cpu(), peakRssMb());
        Runtime.getRuntime().halt(0);
      }
    }
  }
}
