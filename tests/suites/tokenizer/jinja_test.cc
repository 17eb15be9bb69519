#include "suites/tokenizer/jinja.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace suites::jinja {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;

std::string Rendered(const std::string& text, const ordered_json& variables = ordered_json::object()) {
  return Template(text).Render(variables);
}

std::string ErrorOf(const std::string& text) {
  try {
    Rendered(text, {{"list", {1, 2}}, {"dict", {{"a", 1}}}});
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    EXPECT_TRUE(std::string(error.what()).starts_with("line ")) << error.what();
    return error.what();
  }
  return "";
}

TEST(JinjaTest, SetInALoopStaysThere) {
  EXPECT_EQ(Rendered("{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}"), "221");
  EXPECT_EQ(Rendered("{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}"), "2");
}

TEST(JinjaTest, UndefinedIsNothingUntilItIsUsed) {
  EXPECT_EQ(Rendered("{{ a }}{{ {}.b }}{{ none.c }}{{ [1][5] }}{% for x in a %}{% endfor %}{{ a|length }}"), "0");
  EXPECT_THAT(ErrorOf("{{ a.b }}"), HasSubstr("'b' of 'a', which is undefined"));
  EXPECT_THAT(ErrorOf("{{ a + 'b' }}"), HasSubstr("'+' between 'a', which is undefined and a string"));
  EXPECT_THAT(ErrorOf("{{ a | tojson }}"), HasSubstr("tojson meets 'a'"));
}

struct Refused {
  const char* text;
  const char* message;
};

TEST(JinjaTest, RefusesWhatIsOutside) {
  for (const Refused& c :
       std::initializer_list<Refused>{{"{% include 'x' %}", "the tag 'include' is not read"},
                                      {"{% macro f() %}{% endmacro %}", "the tag 'macro' is not read"},
                                      {"{% raw %}{% endraw %}", "the tag 'raw' is not read"},
                                      {"{{ list | map('upper') }}", "the filter 'map' is not read"},
                                      {"{{ 1 is divisibleby(2) }}", "the test 'divisibleby' is not read"},
                                      {"{{ strftime_now('%Y') }}", "the function 'strftime_now' is not read"},
                                      {"{{ list.append(3) }}", "the method 'append' of a list is not read"},
                                      {"{{ 'a'.format(1) }}", "the method 'format' of a string is not read"},
                                      {"{{ dict.items }}", "without a call"},
                                      {"{{ list }}", "written as text without tojson"},
                                      {"{{ 1 < 2 < 3 }}", "chain of comparisons"},
                                      {"{{ 2 ** 3 }}", "powers"},
                                      {"{% for x in list %}{{ loop.cycle(1) }}{% endfor %}", "loop.cycle is not read"},
                                      {"{{ list() }}", "'list' is not a function"},
                                      {"{{ 'ä' | upper }}", "ASCII only"},
                                      {"{{ 1 // 0 }}", "division by zero"},
                                      {"{{ 9223372036854775807 + 1 }}", "does not fit 64 bits"},
                                      {"{{ 99999999999999999999 }}", "a number"}}) {
    EXPECT_THAT(ErrorOf(c.text), HasSubstr(c.message)) << c.text;
  }
  EXPECT_EQ(ErrorOf("{{ list | length }}"), "");  // the control
}

TEST(JinjaTest, RefusesWhatIsNotJinja) {
  for (const char* text : {"{{",
                           "{{ 1",
                           "{{ 'a }}",
                           "{{ 1 2 }}",
                           "{% if %}",
                           "{% if 1 %}",
                           "{% endif %}",
                           "{% for x %}",
                           "{% set x %}",
                           "{{ (1 }}",
                           "{{ 1) }}",
                           "{{ [1 }}",
                           "{{ a. }}",
                           "{{ a[] }}",
                           "{{ a[1:2:3:4] }}",
                           "{# a",
                           "{{ @ }}",
                           "{{ 'a\\u12' }}",
                           "{{ f(a=1, 2) }}",
                           "{% break %}",
                           "{{ '\\ud800' }}",
                           "{{ \xff }}",
                           "{% else %}",
                           "{{ 1 is }}",
                           "{{ 1 | }}"}) {
    EXPECT_NE(ErrorOf(text), "") << text;
  }
}

// Small templates that would take hours, or all of the memory or of the stack.
TEST(JinjaTest, IsBounded) {
  const auto nested = [](const std::string& a, const std::string& b, const std::string& c) {
    std::string text;
    for (int i = 0; i < 20000; ++i) text += a;
    text += b;
    for (int i = 0; i < 20000; ++i) text += c;
    return text;
  };
  EXPECT_THAT(ErrorOf("{{ " + nested("(", "1", ")") + " }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{{ " + nested("-", "1", "") + " }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{{ " + nested("not ", "1", "") + " }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{{ " + nested("1 + ", "1", "") + " }}"), HasSubstr("deeper than 200 levels"));
  EXPECT_THAT(ErrorOf("{{ a" + nested(".a", "", "") + " }}"), HasSubstr("deeper than 200 levels"));
  EXPECT_THAT(ErrorOf(nested("{% if 1 %}", "", "{% endif %}")), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{% for x in range(1000000000000) %}{% endfor %}"), HasSubstr("too much"));
  const std::string loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}";
  EXPECT_THAT(ErrorOf(loops + "{% endfor %}{% endfor %}{% endfor %}"), HasSubstr("too much"));
  // Each round of a namespace doubles.
  const auto doubled = [](const std::string& start, const std::string& step) {
    return "{% set n = namespace(x=" + start + ") %}{% for i in range(99) %}{% set n.x = " + step + " %}{% endfor %}";
  };
  EXPECT_THAT(ErrorOf(doubled("'a'", "n.x ~ n.x")), HasSubstr("too"));
  EXPECT_THAT(ErrorOf(doubled("[1]", "n.x + n.x")), HasSubstr("too"));
  EXPECT_THAT(ErrorOf(doubled("[1]", "[n.x, n.x]")), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf("{% set n = namespace(x=1) %}{% for i in range(999) %}{% set n.x = [n.x] %}{% endfor %}"),
              HasSubstr("nest deeper"));
  EXPECT_THAT(ErrorOf("{% set n = namespace() %}{% set n.n = n %}"), HasSubstr("a namespace cannot be put"));
  EXPECT_EQ(ErrorOf("{% for a in range(99) %}{% for b in range(99) %}{% endfor %}{% endfor %}"), "");  // the control
}

}  // namespace
}  // namespace suites::jinja
