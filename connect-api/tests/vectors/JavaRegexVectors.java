import java.util.*;
import java.util.regex.*;

/**
 * Writes java-regex.jsonl: what java.util.regex does with patterns, texts and replacements.
 * Run with JDK 25: {@code java JavaRegexVectors.java > java-regex.jsonl}
 */
public class JavaRegexVectors {
    static final StringBuilder OUT = new StringBuilder();

    static String json(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 0x20 || c > 0x7e) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    static void add(boolean anyCase, String pattern, List<String> texts, List<String> replacements) {
        OUT.append("{\"pattern\":").append(json(pattern));
        if (anyCase) OUT.append(",\"anyCase\":true");
        Pattern compiled;
        try {
            compiled = Pattern.compile(pattern, anyCase ? Pattern.CASE_INSENSITIVE : 0);
        } catch (PatternSyntaxException e) {
            OUT.append(",\"error\":").append(json(e.getDescription())).append("}\n");
            return;
        } catch (RuntimeException e) {
            OUT.append(",\"error\":").append(json(e.getClass().getName())).append("}\n");
            return;
        }
        OUT.append(",\"texts\":[");
        boolean first = true;
        for (String text : texts) {
            if (!first) OUT.append(',');
            first = false;
            Matcher matcher = compiled.matcher(text);
            OUT.append("{\"text\":").append(json(text));
            OUT.append(",\"matches\":").append(matcher.matches());
            boolean found = matcher.reset().find();
            OUT.append(",\"find\":").append(found);
            if (found) OUT.append(",\"group\":").append(json(matcher.group()));
            if (!replacements.isEmpty()) {
                OUT.append(",\"replaced\":[");
                for (int i = 0; i < replacements.size(); i++) {
                    if (i > 0) OUT.append(',');
                    String replaced;
                    try {
                        replaced = "{\"text\":" + json(compiled.matcher(text).replaceFirst(replacements.get(i))) + "}";
                    } catch (RuntimeException e) {
                        replaced = "{\"class\":" + json(e.getClass().getName()) + ",\"message\":" + json(e.getMessage()) + "}";
                    }
                    OUT.append(replaced);
                }
                OUT.append(']');
            }
            OUT.append('}');
        }
        OUT.append(']');
        if (!replacements.isEmpty()) {
            OUT.append(",\"replacements\":[");
            for (int i = 0; i < replacements.size(); i++) OUT.append(i > 0 ? "," : "").append(json(replacements.get(i)));
            OUT.append(']');
        }
        OUT.append("}\n");
    }

    static void add(String pattern, String... texts) {
        add(false, pattern, List.of(texts), List.of());
    }

    static void replace(String pattern, List<String> texts, String... replacements) {
        add(false, pattern, texts, List.of(replacements));
    }

    public static void main(String[] arguments) {
        // what users of Connect write
        add("orders-.*", "orders-1", "orders-", "orders", "xorders-1", "orders-a\nb");
        add("(?!__).*", "__consumer_offsets", "orders", "_x", "");
        add("^(?!__consumer_offsets$).*$", "__consumer_offsets", "__consumer_offsets2", "a");
        add("(?<!dev-)orders|prod\\.(?=o)orders", "orders", "dev-orders", "prod.orders", "xorders");
        add("a|ab", "a", "ab", "abc");
        add("dbserver1\\.inventory\\.(.*)", "dbserver1.inventory.customers", "dbserver1Xinventory.c");
        add("[a-zA-Z0-9._-]+", "a.b_c-D9", "a b", "");
        add("\\Qa.b\\E.*", "a.b", "a.bc", "axb");
        add("\\Qa.b", "a.b", "axb");
        add("\\Qa\\E+", "a", "aaa", "ab");
        add("\\Qab\\E+", "ab", "abb", "abab");
        add("[\\Q^-]\\E]+", "^", "-", "]", "a");
        add("\\\\Q", "\\Q", "Q");
        add("\\E", "");
        add("(?x) a b # comment\n c", "abc", "a b c");
        add("(?x)[a b]+\\ \\Q #\\Ec", "ab  #c", "a b  #c");
        add("(?x)(?<n> a ) \\k<n> {2}", "aaa", "aa");
        add("(?i)ABC-\\d+", "abc-1", "aBc-12", "abd-1");
        add("(?i)k", "\u212a", "K");
        add("(?iu)k", "\u212a", "K");
        add("(?i)\u00e4", "\u00c4", "\u00e4");
        add("(?iu)\u00e4", "\u00c4", "\u00e4");
        add("(?iu)[\u00e0-\u00e4]", "\u00c4", "\u00e4", "b");
        add("(?i)[^a]", "a", "A", "b");
        add("(?i)[X-c]+", "x", "Z", "A", "_", "d", "D");
        add("a(?i)b|c", "aB", "C", "AB");
        add("a(?i:b)c", "aBc", "aBC");
        add("a((?i)b)c", "aBc", "aBC");
        add("(?i)a(?-i)b", "Ab", "AB");
        add("(?i)(a)\\1", "aA", "Aa", "ab");
        add("(?U)\\w+", "\u00e4\u0663", "a_1", "a-1");
        add("(?U)\\d+\\s\\b", "\u0663\u00a0", "3\u2003x");
        add("\\w+", "\u00e4", "a_1");
        add("\\d+", "\u0663", "3");
        add("\\s", "\u00a0", " ", "\u000b");
        add("\\h\\v\\R", "\u00a0\u2028\r\n", "\t\n\r", "\u180e\u000b\u0085");
        add("\\H+\\V+", "ab", "a b");
        add("\\bfoo\\b", "foo", "a foo b", "foob", "\u00e4foo");
        add("\\Bo", "foo", "o");
        // lines
        for (String flags : List.of("", "(?m)", "(?s)", "(?d)", "(?md)", "(?sm)"))
            for (String pattern : List.of("^a$", "a$", "^b", ".", "a.b", "a\\Z", "a\\z", "^$", "^", "$", "(?=$)", "x*$"))
                add(flags + pattern, "a", "a\n", "a\r\n", "a\r", "a\n\n", "a\nb", "b\na", "a\r\nb", "a\u0085", "a\u2028b", "", "\n", "\r\n", "xx\n");
        // quantifiers
        for (String quantifier : List.of("*", "+", "?", "{2}", "{1,}", "{1,2}", "{0}", "{0,0}", "{,2}", "{a}", "{2,1}", "{1", "{1}{2}", "{99999999999}"))
            for (String mode : List.of("", "?", "+"))
                add("a" + quantifier + mode + "a", "a", "aa", "aaa", "aaaa", "ba");
        add("a**", "a");
        add("*a", "a");
        add("a|*", "a");
        add("(*a)", "a");
        add("{2}", "", "{2}");
        add("{", "{");
        add("}", "}", "");
        add("]", "]");
        add("a]b}", "a]b}");
        add("^*a", "a", "^a");
        add("$?a", "a");
        add("(?i)*a", "a");
        add("(?=a)*b", "b", "ab");
        add("(a?)*b", "b", "aab");
        add("(a|b)*+c", "ababc", "abab");
        add("(?>a|ab)c", "ac", "abc");
        add("a++b", "aab", "b");
        add("\\d{3}-?+\\d", "123-4", "1234");
        add("(a)|b\\1", "a", "b", "ba");
        add("(a)(b)?\\2", "ab", "abb", "a");
        add("\\1(a)", "a", "aa");
        add("\\2(a)", "a", "aa");
        add("(a)\\11", "aa1", "aa");
        add("(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)(k)\\11", "abcdefghijkk", "abcdefghijka1");
        add("\\1", "", "1");
        add("\\0101", "A", "A1", "\n1");
        add("\\08", "8");
        add("\\0377\\0400", "\u00ff 0");
        add("\\x41\\x{1F600}\\u0041", "A\ud83d\ude00A");
        add("\\ud83d\\ude00", "\ud83d\ude00");
        add("[\\ud83d\\ude00]", "\ud83d\ude00");
        add("\\x4", "4");
        add("\\x{110000}", "");
        add("\\x{}", "");
        add("\\u12", "");
        add("\\cA\\c@\\t\\a\\e\\f", "\u0001\u0000\t\u0007\u001b\f");
        add("\\c", "");
        add("\\", "\\");
        add("\\y", "y");
        add("\\i", "i");
        add("\\_\\-\\#\\ \\!", "_-# !");
        add("\ud83d\ude00+", "\ud83d\ude00\ud83d\ude00");
        add(".", "\ud83d\ude00");
        // groups
        add("(", "");
        add(")", "");
        add("a)b", "ab");
        add("(?", "");
        add("(?<a", "");
        add("(?<1a>b)", "b");
        add("(?<>b)", "b");
        add("(?<a_b>c)", "c");
        add("(?<n>a)(?<n>b)", "ab");
        add("(?<n>a)\\k<n>", "aa");
        add("\\k<n>(?<n>a)", "aa");
        add("\\k<m>", "");
        add("\\kn", "");
        add("(?P<n>a)", "a");
        add("(?'n'a)", "a");
        add("(?q)a", "a");
        add("(?-i)a", "a");
        add("(?i-s:a.)b", "Axb", "AxB");
        add("(?)a", "a");
        add("(?:)", "");
        add("()", "", "a");
        add("a||b", "", "a", "b");
        add("|", "", "|");
        add("(?<=a)b", "ab", "b");
        add("(?<=a|bc)d", "ad", "bcd", "cd");
        add("(?<!a|bc)d", "ad", "bcd", "cd");
        add("(?<=^|-)x", "x", "-x", "ax");
        add("(?=a)(?!ab)a.", "ac", "ab");
        add("(?<=a*)b", "ab");
        add("(?=(a))\\1b", "ab", "b");
        // classes
        for (String pattern : List.of("[a-c]", "[^a-c]", "[a-c&&b]", "[a-c&&[^b]]", "[a-c&&[bc]d]", "[a-d&&b-c]", "[a-c[x-z]]",
                "[^a-c[x-z]]", "[^a-c&&b]", "[a-c&&^b]", "[a&&b]", "[&&a]", "[a&&]", "[a&&&b]", "[a&b]", "[&]", "[&&]", "[a-c&&b&&b-z]",
                "[a-c&&[b-z]&&[^b]]", "[]a]", "[^]a]", "[a", "[", "[]", "[^]", "[a-]", "[-a]", "[a-c-e]", "[a-[b]]", "[c-a]", "[\\d-x]",
                "[a-\\d]", "[\\w&&[^\\d]]", "[\\]]", "[\\-a]", "[a\\-c]", "[.*+?()|{}$]", "[^^]", "[\\^a]", "[a-c]]", "[[a]b]", "[a[b]",
                "[\\p{L}&&[^a]]", "[^\\p{L}]", "[\\P{L}]", "[\\b]", "[\\1]", "[\\x41-\\x43]", "[\\n-\\r]", "[\\R]", "[\\h]", "[\\e]", "[\\Qa-c\\E]",
                "[a-c&&[a-b]c]", "[ab&&[a]&&[b]]", "[a-z&&[^aeiou]&&[^xyz]]", "[[^a]&&[^b]]", "[^[^a]]", "[^a&&[^b]]", "[a-c&&[b][x]]", "[a#b]", "[a-c--b]", "[a~~b]"))
            add(pattern, "a", "b", "c", "d", "x", "-", "^", "]", "&", "[", "1", "A", "\n", "~", "ab");
        for (String name : List.of("Lower", "Upper", "ASCII", "Alpha", "Digit", "Alnum", "Punct", "Graph", "Print", "Blank", "Cntrl", "XDigit",
                "Space", "L", "Lu", "IsL", "IsLu", "IsLatin", "IsGreek", "IsAlphabetic", "IsDigit", "IsWhite_Space", "IsLetter", "IsIdeographic",
                "IsUppercase", "IsLowercase", "IsPunctuation", "IsControl", "IsAssigned", "Isalphabetic", "islatin", "LC", "LD", "L1", "all", "M", "N", "Nd", "P", "S", "Sc", "Z", "Zs",
                "C", "Cc", "Cn", "script=Latin", "sc=Latin", "sc=Latn", "IsLatn", "general_category=Lu", "gc=Lu", "gc=Nope", "javaLowerCase", "javaUpperCase", "javaLetter",
                "javaLetterOrDigit", "javaDigit", "javaWhitespace", "javaSpaceChar", "javaAlphabetic", "javaDefined", "javaISOControl",
                "javaTitleCase", "Nope", "IsNope", "lower", "", "x=y", "IsJoin_Control", "IsTitlecase", "IsHex_Digit", "IsNoncharacter_Code_Point"))
            for (String flags : List.of("", "(?i)", "(?U)"))
                for (String p : List.of("p", "P"))
                    add(flags + "\\" + p + "{" + name + "}", "a", "A", "1", "_", " ", "\t", "\n", "\u00e4", "\u00c4", "\u03b1", "\u01c5", "\u0663", "\u00a0", "\u3000", "\u4e00", "$", "!", "\u0301", "\u0378", "\u0000");
        add("\\pL\\PL", "a1", "1a");
        add("\\p", "");
        add("\\p{L", "");
        add("\\p{^L}", "a");
        // any case by flag
        for (String pattern : List.of("public\\.Orders", "[a-c]+", "[^a-c]", "\\p{Lower}", "\\p{Lu}", "(a)\\1", "\\Qab\\E", "\\x41", "[X-c]", "(?-i)a", "\u00e4", "(?u)\u00e4"))
            add(true, pattern, List.of("PUBLIC.ORDERS", "ABC", "abc", "aA", "AB", "a", "A", "z", "Z", "_", "\u00c4", "\u00e4"), List.of());
        // replacements
        List<String> topics = List.of("server1.inventory.customers", "orders", "a");
        replace("(.*)\\.(.*)\\.(.*)", topics, "$3", "$1-$2", "\\$1", "$0x", "$4", "$10", "$", "\\", "$x", "${", "${n}", "x\\y", "$1$", "${1a}", "${a", "${a-b}", "$\\1");
        replace("(?<schema>[a-z]+\\d)\\.(?<rest>.*)", topics, "${rest}", "${schema}_${rest}", "${nope}", "$1", "$2$1", "$01", "$21");
        replace("(o)|(a)", topics, "[$1$2]", "<$0>", "$3");
        replace("", topics, "x", "$0");
        replace("x*", topics, "-");
        replace("(?<a>o)|(?<b>a)", topics, "${a}${b}");
        replace("(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)", List.of("abcdefghij", "abc"), "$10", "$11", "$100", "$1$2$3");
        // at random, the same every time
        String[] parts = {"a", "b", "ab", ".", "[ab]", "[^a]", "(a)", "(a|b)", "(?:ab)", "(?=a)", "(?!b)", "(?<=a)", "(?<!b)", "^", "$", "\\b", "|", "*", "+", "?",
            "{1,2}", "*?", "+?", "??", "*+", "++", "?+", "{2}", "\\1", "(", ")", "(?>a|ab)", "\\d", "1", "-", "[a&&[^b]]", "(?i)", "A", "\\w", "\n", "(?m)", "(?s)", "\\Z", "\\n"};
        String[] letters = {"a", "b", "ab", "A", "1", "-", "\n", "aa", ""};
        Random random = new Random(20260);
        for (int i = 0; i < 1500; i++) {
            StringBuilder pattern = new StringBuilder();
            for (int j = random.nextInt(6) + 1; j > 0; j--) pattern.append(parts[random.nextInt(parts.length)]);
            List<String> texts = new ArrayList<>();
            for (int j = 0; j < 5; j++) {
                StringBuilder text = new StringBuilder();
                for (int k = random.nextInt(5); k >= 0; k--) text.append(letters[random.nextInt(letters.length)]);
                texts.add(text.toString());
            }
            add(false, pattern.toString(), texts, i % 3 == 0 ? List.of("<$0>") : List.of());
        }
        System.out.print(OUT);
    }
}
