import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.kafka.connect.data.*;
import org.apache.kafka.connect.storage.*;

/**
 * Writes text.jsonl: what SimpleHeaderConverter and StringConverter of Apache Kafka 4.3.1 do with texts and bytes at the
 * edges of their rules, in the form of converter.jsonl.
 * Run with JDK 25, connect-api, kafka-clients and slf4j-api on the class path, time zone UTC:
 * {@code java -Duser.timezone=UTC -cp … TextVectors.java > text.jsonl}
 */
public class TextVectors {
    static final Set<String> SEEN = new LinkedHashSet<>();
    static int number = 0;

    static String json(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 0x20 || c > 0x7e) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    static String base64(byte[] bytes) {
        return json(Base64.getEncoder().encodeToString(bytes));
    }

    static String schema(Schema schema) {
        if (schema == null) return "null";
        StringBuilder out = new StringBuilder("{\"type\":\"" + schema.type() + "\",\"optional\":" + schema.isOptional());
        if (schema.name() != null) out.append(",\"name\":").append(json(schema.name()));
        if (schema.version() != null) out.append(",\"version\":").append(schema.version());
        if (schema.parameters() != null) {
            StringJoiner parameters = new StringJoiner(",", "{", "}");
            schema.parameters().forEach((name, value) -> parameters.add(json(name) + ":" + json(value)));
            out.append(",\"parameters\":").append(parameters);
        }
        if (schema.type() == Schema.Type.MAP) out.append(",\"keySchema\":").append(schema(schema.keySchema()));
        if (schema.type() == Schema.Type.MAP || schema.type() == Schema.Type.ARRAY)
            out.append(",\"valueSchema\":").append(schema(schema.valueSchema()));
        return out.append('}').toString();
    }

    static String value(Object value) {
        if (value == null) return "null";
        if (value instanceof Byte) return "{\"int8\":" + value + "}";
        if (value instanceof Short) return "{\"int16\":" + value + "}";
        if (value instanceof Integer) return "{\"int32\":" + value + "}";
        if (value instanceof Long) return "{\"int64\":" + value + "}";
        if (value instanceof Float) return "{\"float32\":\"" + value + "\"}";
        if (value instanceof Double) return "{\"float64\":\"" + value + "\"}";
        if (value instanceof Boolean) return "{\"boolean\":" + value + "}";
        if (value instanceof String text) return "{\"string\":" + json(text) + "}";
        if (value instanceof byte[] bytes) return "{\"bytes\":" + base64(bytes) + "}";
        if (value instanceof BigDecimal decimal)
            return "{\"decimal\":{\"unscaled\":\"" + decimal.unscaledValue() + "\",\"scale\":" + decimal.scale() + "}}";
        if (value instanceof java.util.Date date) return "{\"date\":" + date.getTime() + "}";
        if (value instanceof List<?> list) {
            StringJoiner out = new StringJoiner(",", "{\"array\":[", "]}");
            for (Object one : list) out.add(value(one));
            return out.toString();
        }
        if (value instanceof Map<?, ?> map) {
            StringJoiner out = new StringJoiner(",", "{\"map\":[", "]}");
            map.forEach((key, one) -> out.add("[" + value(key) + "," + value(one) + "]"));
            return out.toString();
        }
        throw new IllegalStateException(value.getClass().getName());
    }

    static String data(SchemaAndValue data) {
        if (data == null) return "{\"schema\":null,\"value\":null,\"returnsNull\":true}";
        return "{\"schema\":" + schema(data.schema()) + ",\"value\":" + value(data.value()) + "}";
    }

    static String error(Throwable error) {
        return "{\"error\":{\"class\":" + json(error.getClass().getName()) + ",\"message\":"
            + json(String.valueOf(error.getMessage())) + ",\"match\":\"exact\"}}";
    }

    static void add(String name, String op, Class<?> type, String config, String input, String expect) {
        String rest = ",\"kind\":\"converter\",\"class\":\"" + type.getName() + "\",\"op\":\"" + op + "\",\"as\":\""
            + (op.endsWith("Header") ? "header" : "value") + "\",\"config\":" + config + ",\"input\":" + input + ",\"expect\":" + expect + "}";
        if (SEEN.add(rest)) System.out.println("{\"id\":\"text/" + name + "/" + number++ + "\"" + rest);
    }

    static void header(byte[] bytes) {
        SimpleHeaderConverter converter = new SimpleHeaderConverter();
        String input = "{\"bytes\":{\"base64\":" + base64(bytes) + ",\"text\":" + json(new String(bytes, StandardCharsets.UTF_8)) + "}}";
        String expect;
        try {
            expect = data(converter.toConnectHeader("t", "h", bytes));
        } catch (Throwable error) {
            expect = error(error);
        }
        add("SimpleHeaderConverter", "toConnectHeader", SimpleHeaderConverter.class, "{}", input, expect);
    }

    static void header(String... texts) {
        for (String text : texts) header(text.getBytes(StandardCharsets.UTF_8));
    }

    static void written(Schema schema, Object value) {
        String input = "{\"schema\":" + schema(schema) + ",\"value\":" + value(value) + "}";
        String expect;
        try {
            byte[] bytes = new SimpleHeaderConverter().fromConnectHeader("t", "h", schema, value);
            expect = "{\"bytes\":" + (bytes == null ? "null" : "{\"base64\":" + base64(bytes) + ",\"text\":"
                + json(new String(bytes, StandardCharsets.UTF_8)) + "}") + "}";
        } catch (Throwable error) {
            expect = error(error);
        }
        add("SimpleHeaderConverter", "fromConnectHeader", SimpleHeaderConverter.class, "{}", input, expect);
    }

    static void string(String encoding, byte[] bytes) {
        StringConverter converter = new StringConverter();
        converter.configure(Map.of("converter.encoding", encoding), false);
        String config = "{\"converter.encoding\":" + json(encoding) + "}";
        add("StringConverter", "toConnectData", StringConverter.class, config, "{\"bytes\":{\"base64\":" + base64(bytes) + "}}",
            data(converter.toConnectData("t", bytes)));
    }

    static void encoded(String encoding, String text) {
        StringConverter converter = new StringConverter();
        converter.configure(Map.of("converter.encoding", encoding), false);
        String config = "{\"converter.encoding\":" + json(encoding) + "}";
        byte[] bytes = converter.fromConnectData("t", Schema.STRING_SCHEMA, text);
        add("StringConverter", "fromConnectData", StringConverter.class, config,
            "{\"schema\":" + schema(Schema.STRING_SCHEMA) + ",\"value\":" + value(text) + "}", "{\"bytes\":{\"base64\":" + base64(bytes) + "}}");
    }

    /** Bytes that are UTF-8 here and there. */
    static byte[] mangled(Random random) {
        int[] starts = {0x41, 0x80, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xf8, 0xfe, 0xff, 0x9f, 0xa0, 0x8f, 0x90, 0xd8, 0xdc, 0x00};
        byte[] bytes = new byte[1 + random.nextInt(6)];
        for (int i = 0; i < bytes.length; i++) bytes[i] = (byte) starts[random.nextInt(starts.length)];
        return bytes;
    }

    static String pick(Random random, String... of) {
        return of[random.nextInt(of.length)];
    }

    static String scalar(Random random, int depth) {
        return switch (random.nextInt(depth > 2 ? 8 : 10)) {
            case 0 -> pick(random, "null", "true", "false", "TRUE", "Null", " true ", "nul");
            case 1 -> pick(random, "1", "-1", "+1", "127", "128", "-129", "32768", "2147483648", "9223372036854775808", "0x1", "1_000", "1d", "1f", "1L");
            case 2 -> pick(random, "1.5", "1.0", "1e3", "1e39", "1e400", "-0.0", "0.0", ".5", "5.", "1.17549435E-38", "1e-50", "NaN", "Infinity", "+-1", "--1", "1-", "1+1", "1e", "e1", "1.2.3");
            case 3 -> "\"" + pick(random, "a", "", " ", "a b", "a,b", "a\\\"b", "1", "null", "2020-01-01", "12:34:56.789Z", "2020-01-01T12:34:56.789Z", "\\\\", "\\") + "\"";
            case 4 -> pick(random, "2020-01-01", "0001-01-01", "0000-00-00", "9999-12-31", "2020-13-45", "2020-01-0a", "1582-10-10", "1582-10-15", "1500-02-29");
            case 5 -> pick(random, "12:34:56.789Z", "12\\:34\\:56.789Z", "25:61:61.999Z", "12:34:56.789z", "12:34:56.7890", "00:00:00.000Z");
            case 6 -> pick(random, "2020-01-01T12:34:56.789Z", "2020-01-01T12\\:34\\:56.789Z", "0001-01-01T00:00:00.000Z", "2020-01-01T12:34:56.789+");
            case 7 -> pick(random, "a", "a b", "\\", "\\\\", "\\,", "é", "\u0661\u0662", "", " ", "\t", "\"", "\"a", "a\"");
            case 8 -> array(random, depth + 1);
            default -> map(random, depth + 1);
        };
    }

    static String gap(Random random) {
        return random.nextInt(4) == 0 ? pick(random, " ", "  ", "\t", "\n", "") : "";
    }

    static String array(Random random, int depth) {
        StringBuilder out = new StringBuilder("[");
        int count = random.nextInt(4);
        for (int i = 0; i < count; i++) out.append(gap(random)).append(i > 0 ? "," : "").append(gap(random)).append(scalar(random, depth));
        return out.append(gap(random)).append(pick(random, "]", "]", "]", "]", "]", ",]", "", "] ")).toString();
    }

    static String map(Random random, int depth) {
        StringBuilder out = new StringBuilder("{");
        int count = random.nextInt(4);
        for (int i = 0; i < count; i++)
            out.append(gap(random)).append(i > 0 ? pick(random, ",", ",", ",", " ") : "").append(gap(random)).append(scalar(random, depth))
                .append(gap(random)).append(pick(random, ":", ":", ":", ":", ":", "", "=")).append(gap(random)).append(scalar(random, depth));
        return out.append(gap(random)).append(pick(random, "}", "}", "}", "}", "}", ",}", "", "} ")).toString();
    }

    public static void main(String[] arguments) {
        header("+-1", "-+1", "++1", "--1", "+ 1", "- 1", "+", "-", "+1", "-0", "+0", "-0.0", "+0.0", "00", "007", "-007", "0x10", "1_0",
            "1d", "1f", "1D", "1F", "1L", "1l", "0x1p3", "1e3", "1E3", "1e+3", "1e-3", "1E", "e1", "1e1e1", ".5", "5.", ".", "-.5", "+.5", "1.",
            "1..2", "1.2.3", "1,5", "1 5", " 1", "1 ", "\t1\n", "1\u00a0", "\u00a01", "NaN", "Infinity", "-Infinity", "inf", "nan",
            "127", "128", "-128", "-129", "32767", "32768", "-32768", "-32769", "2147483647", "2147483648", "-2147483648", "-2147483649",
            "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "1e2", "1e18", "1e19", "1e38", "1e39",
            "3.4028235e38", "3.4028236e38", "1e308", "1e309", "1.8e308", "1e-45", "1e-46", "1e-324", "1e-325", "1e2147483647", "1e2147483648",
            "1e-2147483647", "1e-2147483648", "1e99999999999", "0e99999999999", "0.1", "0.10", "1.10", "100.0", "1.0e2", "123456789.123456789", "16777217.0", "0.30000000000000004",
            "\u0661\u0662\u0663", "\u0661.5", "-\u0661", "\uff11", "\ud835\udfce", "\u0be7", "\u09e7\u09e8", "\u2460", "\u00b2", "\u00bd", "\u2167");
        header("null", "true", "false", " null", "null ", " null ", "NULL", "Null", "True", "FALSE", "null,1", "true,false", "false,true", "null,", ",null",
            "null:1", "true:1", "null}", "null]", "null[", "true{", "true\"", "null null", "true true", "nullnull", "null\u00a0", "\u00a0null", "\u2003true", "\u0000true", "true\u0000",
            "1,2", "1,", ",1", "1:2", "1]", "1[", "1{", "1}", "1\"", "1,null", "a,b", "a:b", "a,", ",a", ":", ",", "]", "}", "[", "{", "\"", "\"\"", "\"a\"", "\"a", "a\"",
            "\"a\"b", "\"1\"", "\"null\"", "\"2020-01-01\"", "\\", "\\\\", "\\\"", "\\:", "\\,", "a\\:b", "\\a", "\\n", "", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u001c", "\u0085",
            "null\n", "true\t", "null\u001f", "[", "[]", "[ ]", "[,]", "[1", "[1]", "[1,]", "[1,,2]", "[1 2]", "[1]2", "[1]]", "[1] ", " [1]", "[1],", "[1],[2]", "[[1],[2]]", "[[1],[2,3]]", "[[1],[\"a\"]]", "[null]", "[null,null]",
            "[null,1]", "[1,null]", "[true]", "[true,1]", "[true,null]", "[true,false]", "[a]", "[a,b]", "[\"a\",\"b\"]", "[\"a\",1]", "[1,\"a\"]", "[1,1.5]", "[1,1000]", "[1,100000]", "[1,10000000000]", "[1.5,1]", "[1000,1.5]", "[1.5,1e100]",
            "[1,1e400]", "[1e400]", "[1e400,1e401]", "[1e400,1]", "[2020-01-01]", "[2020-01-01,1]", "[1,2020-01-01]", "[2020-01-01,2020-01-02]", "[12:34:56.789Z]", "[12\\:34\\:56.789Z]", "[\"12:34:56.789Z\"]", "[2020-01-01,12\\:34\\:56.789Z]", "[\"2020-01-01\"]",
            "[2020-01-01T12:34:56.789Z]", "[{}]", "[{},{}]", "[[]]", "[[],[]]", "[[],[1]]", "[[1],[]]", "[[null]]", "[{},1]", "[[],1]", "{}", "{ }", "{,}", "{1}", "{1:2}", "{1:2,}", "{1:2,3:4}", "{1:2 3:4}", "{1:2,,3:4}", "{1:2}}", "{1:2}3",
            "{a:1}", "{\"a\":1}", "{\"a\":b}", "{\"a\":\"b\"}", "{\"a\":null}", "{\"a\":1,\"b\":null}", "{null:1}", "{\"a\":1,\"a\":2}", "{\"a\":1,\"b\":\"c\"}", "{\"a\":1,\"b\":1000}", "{\"a\":1,2:3}", "{1:2,1000:3}", "{1:2,1.5:3}", "{true:1}", "{[1]:2}", "{{}:1}", "{\"a\":[1,2]}", "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1},\"c\":{}}",
            "{\"a\":}", "{\"a\"}", "{:1}", "{\"a\"::1}", "{\"a\" : 1}", " {\"a\":1} ", "{\"a\":1},", "{\"a\":true}", "{\"a\":2020-01-01}", "{\"a\":12:34:56.789Z}", "{\"a\":12\\:34\\:56.789Z}", "[\"\"]", "[\" \"]", "[ \"a\" ]", "[\"a\"b]", "[\"a\" b]", "[\"a]", "[\"a\\\"\"]", "[\"a\\\\\"]", "[\\\"a\\\"]", "[\"a\n\"]", "[\"\u00e9\"]");
        header("0001-01-01", "0000-01-01", "0000-00-00", "0001-00-00", "0001-01-00", "0000-12-31", "0004-02-29", "0100-02-29", "1000-02-29", "1500-02-29", "1582-10-04", "1582-10-05", "1582-10-10", "1582-10-14", "1582-10-15", "1700-02-29", "1900-02-29",
            "1970-01-01", "1969-12-31", "2000-02-29", "2020-02-30", "2020-13-01", "2020-01-45", "2020-99-99", "9999-12-31", "99999-1-01", "2020-1-011", "2020-1-1aa", "20-01-2020", "1-1-1     ", "2020-01-1 ", "2020-01- 1", "2020 -01-1", "2020-01--1", "2020--1-01", "-020-01-01", "2020/01/01", "2020-01-0\u0661", "2020-01-01 ", " 2020-01-01",
            "0001-01-01T00:00:00.000Z", "0000-01-01T00:00:00.000Z", "0001-01-01T00\\:00\\:00.000Z", "1500-02-29T12:34:56.789Z", "1582-10-04T23:59:59.999Z", "1582-10-10T00:00:00.000Z", "1582-10-15T00:00:00.000Z", "2020-01-01T12:34:56.789Z", "2020-01-01T12:34:56.789z", "2020-01-01t12:34:56.789Z", "2020-01-01T25:61:61.999Z", "2020-01-01T12:34:56.1234",
            "2020-01-01T1:2:3.4Z     ", "2020-01-01T12:34:56.789+", "2020-01-01 12:34:56.789Z", "99999-1-1T12:34:56.789Z", "2020-01-01T12:34:56,789Z", "2020-01-01T12:34:56Z", "2020-01-01T12:34:56.78Z", "2020-01-01T12:34:56.7890Z",
            "00:00:00.000Z", "12:34:56.789Z", "23:59:59.999Z", "24:00:00.000Z", "12:34:56.789z", "12:34:56.7890", "12:34:56,789Z", "1:2:3.4Z     ", "12\\:34\\:56.789Z", "12:34\\:56.789Z", "12\\:34:56.789Z", "99:99:99.999Z", "-1:34:56.789Z", "+1:34:56.789Z", "12: 4:56.789Z", "12:34:56.-89Z", "0012:34:56.7Z", "12:34:56.78Z0", "12:34:5678.0Z",
            "12:34:56.789Z,1", "2020-01-01,1", "2020-01-01:1", "12:34:56.789Z]", "1:2", "1:2:3", "1:2:3:4", "1:2:3:4:5", "1:2:3:4:5:6", "1,2,3,4,5", "1:a", "[1:2:3:4:5]", "[12:34,5]", "{1:2:3}");
        Random random = new Random(20);
        for (int i = 0; i < 3000; i++) header(switch (random.nextInt(3)) {
            case 0 -> array(random, 0);
            case 1 -> map(random, 0);
            default -> scalar(random, 0) + gap(random) + pick(random, ",", ":", "", "]", "}") + gap(random) + scalar(random, 0);
        });
        String alphabet = "01e.+-:,[]{}\"\\ TZ2null";
        for (int i = 0; i < 3000; i++) {
            StringBuilder text = new StringBuilder();
            int length = 1 + random.nextInt(10);
            for (int j = 0; j < length; j++) text.append(alphabet.charAt(random.nextInt(alphabet.length())));
            header(text.toString());
        }
        for (int i = 0; i < 100; i++) header(mangled(random));

        long day = 86_400_000L;
        for (long millis : new long[] {0, 1, -1, day - 1, day, -day, day + 1, -day - 1, 1_577_836_800_000L, 1_577_836_800_001L, -62_135_596_800_000L, -62_135_596_800_001L,
            -62_135_769_600_000L, -62_167_219_200_000L, -12_219_292_800_000L, -12_219_292_800_001L, -12_219_379_200_000L, 253_402_300_800_000L, 253_402_300_799_999L, 2_534_023_008_000_000L, Long.MAX_VALUE, Long.MIN_VALUE}) {
            java.util.Date date = new java.util.Date(millis);
            written(Timestamp.SCHEMA, date);
            written(org.apache.kafka.connect.data.Date.SCHEMA, date);
            written(Time.SCHEMA, date);
        }
        for (double number : new double[] {0, -0.0, 1, 1.5, 1e7, 1e-3, 9.999e-4, 1e21, 2e-3, Double.MIN_VALUE, Double.MAX_VALUE, Double.NaN, Double.POSITIVE_INFINITY, 1e23, 2e23, 8.41e21, 9007199254740993.0}) {
            written(Schema.FLOAT64_SCHEMA, number);
            written(Schema.FLOAT32_SCHEMA, (float) number);
        }
        for (String number : new String[] {"0", "0.00", "1E+3", "1E-7", "0.000001", "0.0000001", "-1.50", "1E+100", "123456789012345678901234567890.5"})
            written(Decimal.schema(new BigDecimal(number).scale()), new BigDecimal(number));
        for (String text : new String[] {"", " ", "a", "a\"b", "a\\b", "\\\"", "é", "\n", "1", "null", "[1]", "\u0000", "\ud83d\ude00"}) {
            written(Schema.STRING_SCHEMA, text);
            written(SchemaBuilder.array(Schema.STRING_SCHEMA).build(), List.of(text));
            written(SchemaBuilder.map(Schema.STRING_SCHEMA, Schema.STRING_SCHEMA).build(), Map.of(text, text));
        }

        for (String encoding : new String[] {"UTF-8", "UTF8", "utf-8", "UTF-16", "UTF-16BE", "UTF-16LE", "ISO-8859-1", "US-ASCII", "latin1", "ascii"}) {
            Random bytes = new Random(7);
            int count = encoding.equals("UTF-8") ? 1500 : encoding.startsWith("UTF-16") ? 300 : 20;
            for (int i = 0; i < count; i++) string(encoding, mangled(bytes));
            string(encoding, new byte[0]);
            for (int i = 0; i < 256; i++) if (count > 20) string(encoding, new byte[] {(byte) i});
            for (String text : new String[] {"", "a", "é", "€", "\ud83d\ude00", "a\ud83d\ude00b", "\u0100", "\u007f\u0080\u00ff", "\ufeffa", "\u0000"}) encoded(encoding, text);
        }
    }
}
