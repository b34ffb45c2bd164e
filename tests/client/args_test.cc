#include "client/cli/args.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Command TestCommand() {
  return {"corpus",
          "add",
          "Adds.",
          {{"ID"}, {"FILE", true}},
          {{"model", "ID", "the model", true},
           {"stop", "T", "a stop", false, true},
           {"quiet", "", "a switch"},
           {"n", "N", "a number"}},
          nullptr};
}

TEST(ArgsTest, TakesFlagsBeforeBetweenAndAfterPositionals) {
  const auto args = Args::Parse(TestCommand(), {"--n=3", "id", "--model", "m", "a.txt", "--quiet",
                                                "b.txt", "--stop", "x", "--stop", "--y"});
  ASSERT_TRUE(args.ok()) << args.status();
  EXPECT_THAT(args->positionals(), ElementsAre("id", "a.txt", "b.txt"));
  EXPECT_EQ(args->Get("model"), "m");
  EXPECT_TRUE(args->Has("quiet"));
  EXPECT_THAT(args->All("stop"), ElementsAre("x", "--y")) << "a flag's value may begin with dashes";
  EXPECT_EQ(*args->Integer("n", 0), 3u);
  EXPECT_EQ(args->Get("absent", "default"), "default");
}

TEST(ArgsTest, SaysWhatIsWrong) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"id", "f"}, "missing --model ID"},
      {{"--model", "m", "id"}, "missing FILE"},
      {{"--model", "m", "--model", "n", "id", "f"}, "--model is given twice"},
      {{"--modle", "m", "id", "f"}, "unknown flag --modle"},
      {{"id", "f", "--model"}, "--model needs a value"},
      {{"--quiet=yes", "--model", "m", "id", "f"}, "--quiet takes no value"},
  };
  for (const auto& [words, message] : cases) {
    const absl::Status status = Args::Parse(TestCommand(), words).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(ArgsTest, NumbersAreCheckedWithTheirRange) {
  for (const char* bad : {"x", "-1", "4294967296", "1.5", ""}) {
    const auto args =
        Args::Parse(TestCommand(), {"--model", "m", std::string("--n=") + bad, "i", "f"});
    ASSERT_TRUE(args.ok());
    EXPECT_FALSE(args->Integer("n", 0).ok()) << bad;
  }
  const auto args = Args::Parse(TestCommand(), {"--model", "m", "--n", "nan", "i", "f"});
  EXPECT_FALSE(args->Number("n", 0).ok());
}

TEST(ArgsTest, TokenIdsAreNumbersWithCommas) {
  EXPECT_THAT(*ParseIds("1,22,333"), ElementsAre(1, 22, 333));
  EXPECT_FALSE(ParseIds("1,,2").ok());
  EXPECT_FALSE(ParseIds("1,-2").ok());
  EXPECT_FALSE(ParseIds("").ok());
}

TEST(ArgsTest, UsageNamesEveryFlag) {
  const std::string usage = TestCommand().Usage();
  for (const char* part :
       {"featurescope corpus add ID FILE...", "--model ID", "[--quiet]", "a number"}) {
    EXPECT_THAT(usage, HasSubstr(part));
  }
}

}  // namespace
}  // namespace featurescope
