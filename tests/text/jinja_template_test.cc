#include "server/text/jinja_template.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::string> Render(absl::string_view source, const JinjaMap& variables = {}) {
  const auto parsed = JinjaTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(variables, absl::FromUnixSeconds(1709640000));  // 2024-03-05 12:00 UTC
}

void ExpectError(absl::string_view source, absl::StatusCode code, const char* message) {
  const absl::Status status = Render(source).status();
  EXPECT_EQ(status.code(), code) << source << ": " << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << source;
}

// What it has in common with Jinja is in tests/golden/chat (chat_template_test.cc).

TEST(JinjaTemplateTest, TheDayIsTold) {
  EXPECT_EQ(*Render("{{ strftime_now('%d %b %Y') }}"), "05 Mar 2024");
  EXPECT_EQ(*Render("{{ strftime_now is defined }}"), "True");
}

TEST(JinjaTemplateTest, OtherTagsFiltersTestsAndCallsAreRefusedByName) {
  const auto refused = absl::StatusCode::kUnimplemented;
  ExpectError("a\nb\n{% include 'x' %}", refused, "line 3: the tag {% include %}");
  ExpectError("{% import 'x' as y %}", refused, "import");
  ExpectError("{% filter upper %}{% endfilter %}", refused, "filter");
  ExpectError("{% raw %}{% endraw %}", refused, "raw");
  ExpectError("{{ x | attr('y') }}", refused, "the filter attr");
  ExpectError("{{ x is callable }}", refused, "the test callable");
  ExpectError("{{ x.__class__() }}", refused, "calling __class__");
  ExpectError("{{ x.format(1) }}", refused, "calling format");
  ExpectError("{{ cycler(1) }}", refused, "the function cycler");
  ExpectError("{{ 2 ** 3 }}", refused, "**");
  ExpectError("{{ 1 < 2 < 3 }}", refused, "chained");
  ExpectError("{{ '%s' % 1 }}", refused, "of a string");
  ExpectError("{{ 'a' * 3 }}", refused, "of a string");
  ExpectError("{{ [1] }}", refused, "printing a list");
  ExpectError("{{ '\u00e9'.upper() }}", refused, "beyond ASCII");
  ExpectError("{% for x in y recursive %}{% endfor %}", refused, "recursive");
  ExpectError("{{ 'a' | trim(1, 2) }}", refused, "argument 2");
}

TEST(JinjaTemplateTest, MalformedTemplatesAreRefusedWithTheirLine) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  ExpectError("{{ 1", invalid, "line 1: a tag has no end");
  ExpectError("\n{% if x %}", invalid, "{% endif %} is missing");
  ExpectError("{% endif %}", invalid, "ends nothing");
  ExpectError("{% if x %}{% endfor %}", invalid, "ends nothing");
  ExpectError("{% else %}", invalid, "ends nothing");
  ExpectError("{{ 'a }}", invalid, "a string has no end");
  ExpectError("{# a", invalid, "a comment has no end");
  ExpectError("{{ }}", invalid, "expected an expression");
  ExpectError("{{ 1 2 }}", invalid, "expected \"}}\", found \"2\"");
  ExpectError("{{ (1 }}", invalid, "expected \")\"");
  ExpectError("{{ [1 }}", invalid, "expected \",\"");
  ExpectError("{{ x[] }}", invalid, "empty []");
  ExpectError("{{ @ }}", invalid, "unexpected");
  ExpectError("{{ '\\ud800' }}", invalid, "escape");
  ExpectError("{{ 99999999999999999999 }}", invalid, "too large");
  ExpectError("{% break %}", invalid, "need a loop");
  ExpectError("{% set x %}", invalid, "endset");
  ExpectError("{% for in x %}{% endfor %}", invalid, "expected \"in\"");
  ExpectError("\xff", invalid, "UTF-8");
}

TEST(JinjaTemplateTest, ErrorsAtRunTimeNameTheLine) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  ExpectError("a\n{{ nobody.name }}", invalid, "line 2: \"nobody\" is undefined");
  ExpectError("{{ raise_exception('not so') }}", invalid, "refuses the conversation: not so");
  ExpectError("{{ 9223372036854775807 + 1 }}", invalid, "too large");
  ExpectError("{{ 1 // 0 }}", invalid, "zero");
  ExpectError("{% set x.y = 1 %}", invalid, "setting an attribute");
  ExpectError("{{ 'abc'[::0] }}", invalid, "step 0");
}

TEST(JinjaTemplateTest, DepthIsBounded) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto nested = [](const char* open, const char* close, int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += open;
    text += "1";
    for (int i = 0; i < n; ++i) text += close;
    return text;
  };
  ExpectError("{{ " + nested("(", ")", 100000) + " }}", invalid, "nested deeper");
  ExpectError("{{ " + nested("[", "]", 100000) + " }}", invalid, "nested deeper");
  ExpectError("{{ " + nested("not ", "", 100000) + " }}", invalid, "nested deeper");
  ExpectError("{{ " + nested("-", "", 100000) + " }}", invalid, "nested deeper");
  ExpectError("{{ x" + nested(".y", "", 100000) + " }}", invalid, "within one another");
  ExpectError("{{ x" + nested(" + 1", "", 100000) + " }}", invalid, "within one another");
  ExpectError(nested("{% if x %}", "{% endif %}", 20000), invalid, "nested deeper");
  ExpectError(nested("{% if x %}", "{% endif %}", 39), absl::StatusCode::kOk, "");
}

TEST(JinjaTemplateTest, StepsAndSizesAreBounded) {
  const auto exhausted = absl::StatusCode::kResourceExhausted;
  ExpectError(
      "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}",
      exhausted, "steps");
  ExpectError("{% for a in range(1000000) %}{% endfor %}", exhausted, "range");
  ExpectError(
      "{% set n = namespace(s='xxxxxxxxxxxxxxxx') %}{% for a in range(60) %}{% set n.s = n.s + n.s "
      "%}{% endfor %}",
      exhausted, "a text grows");
  ExpectError(
      "{% set n = namespace(s=[1]) %}{% for a in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
      exhausted, "a list grows");
  ExpectError("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", exhausted, "too deep");
}

TEST(JinjaTemplateTest, MacrosDoNotSeeTheirCallersVariables) {
  EXPECT_EQ(*Render("{% set g = 1 %}{% macro m(x, y=2) %}{{ g }}{{ x }}{{ y }}{{ i }}{% endmacro %}"
                    "{% for i in [7] %}{{ m(3) }}{{ m(x=4, y=5) }}{% endfor %}"),
            "132145");
  ExpectError("{% macro m(x) %}{% endmacro %}{{ m(1, 2) }}", absl::StatusCode::kInvalidArgument,
              "too many");
  ExpectError("{% macro m(x) %}{% endmacro %}{{ m(z=2) }}", absl::StatusCode::kInvalidArgument,
              "no parameter z");
}

TEST(JinjaTemplateTest, DamagedTemplatesAreRefusedOrRendered) {
  const std::string source =
      "{% for m in messages[1:] %}{% if m.role == 'user' and not loop.last %}{{- m['content'] | "
      "trim ~ '\\n' -}}{% else %}{{ {'a': [1, 2]}.get('a') | tojson }}{% endif %}{% endfor %}";
  const JinjaMap variables = {
      {"messages", JinjaValue::List({JinjaValue::Map({{"role", JinjaValue::String("user")},
                                                      {"content", JinjaValue::String("x")}})})}};
  uint32_t random = 1;
  const auto next = [&random](size_t n) {
    random = random * 1664525 + 1013904223;
    return (random >> 8) % n;
  };
  int n_rendered = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string damaged = source;
    for (size_t i = 0; i <= next(3); ++i) {
      damaged[next(damaged.size())] = "{}%'[]().|-+ax1 "[next(16)];
    }
    if (next(4) == 0) damaged.resize(next(damaged.size()));
    n_rendered += Render(damaged, variables).ok() ? 1 : 0;
  }
  EXPECT_GT(n_rendered, 0);
}

}  // namespace
}  // namespace featurescope
