// README's table "What you can bring" against the tables in the code: all of them, and nothing
// else.
#include <fnmatch.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "server/catalog/catalog.h"
#include "server/hub/sae_releases.h"
#include "server/model/architecture.h"
#include "server/sae/architectures.h"
#include "server/sae/reader.h"
#include "server/text/document_format.h"

namespace featurescope {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAreArray;

using Names = std::vector<std::string>;

std::string ReadmeSection(const std::string& title) {
  std::ifstream in(std::string(FEATURESCOPE_SOURCE_DIR) + "/README.md");
  std::stringstream text;
  text << in.rdbuf();
  const std::string all = text.str();
  const size_t begin = all.find("## " + title);
  EXPECT_NE(begin, std::string::npos) << "README has no section " << title;
  return all.substr(begin, all.find("\n## ", begin + 1) - begin);
}

// The words between backticks in the row that begins with `name`, commands left out.
Names InRow(const std::string& name) {
  for (const absl::string_view line : absl::StrSplit(ReadmeSection("What you can bring"), '\n')) {
    if (!absl::StartsWith(line, absl::StrCat("| ", name, " |"))) continue;
    const std::vector<std::string> parts = absl::StrSplit(line, '`');
    Names names;
    for (size_t i = 1; i < parts.size(); i += 2) {
      if (!absl::StrContains(parts[i], ' ') || absl::StrContains(parts[i], "Scope")) {
        names.push_back(parts[i]);
      }
    }
    return names;
  }
  ADD_FAILURE() << "README's table has no row " << name;
  return {};
}

TEST(ReadmeTest, ListsEveryModelArchitecture) {
  const Names supported = absl::StrSplit(SupportedArchitectures(), ", ");
  EXPECT_THAT(InRow("model architectures"), UnorderedElementsAreArray(supported));
}

TEST(ReadmeTest, ListsEverySaeArchitecture) {
  Names names;
  for (const SaeArchitecture& architecture : kSaeArchitectures) {
    names.emplace_back(architecture.name);
  }
  EXPECT_THAT(InRow("SAE architectures"), UnorderedElementsAreArray(names));
}

TEST(ReadmeTest, ListsEverySaeFormat) {
  Names written = InRow("SAE formats");
  // How a notebook makes one, not a format.
  written.erase(std::remove(written.begin(), written.end(), "torch.save"), written.end());
  Names names;
  for (const SaeFormat* format : kSaeFormats) names.emplace_back(format->name);
  EXPECT_THAT(written, UnorderedElementsAreArray(names));
}

TEST(ReadmeTest, ListsEveryNormalisation) {
  Names names;
  for (const NormalizeActivations mode :
       {NormalizeActivations::kNone, NormalizeActivations::kExpectedAverageOnlyIn,
        NormalizeActivations::kConstantNormRescale, NormalizeActivations::kLayerNorm}) {
    names.emplace_back(NormalizeActivationsName(mode));
  }
  EXPECT_THAT(InRow("SAE normalisations"), UnorderedElementsAreArray(names));
}

TEST(ReadmeTest, ListsEveryExport) {
  EXPECT_THAT(InRow("SAE exports"), UnorderedElementsAreArray(Names(std::begin(kExportFormats),
                                                                    std::end(kExportFormats))));
}

TEST(ReadmeTest, ListsEveryRelease) {
  const Names patterns = InRow("published SAEs");
  std::set<std::string> used;
  for (const SaeRelease& release : SaeReleases()) {
    bool found = false;
    for (const std::string& pattern : patterns) {
      if (::fnmatch(pattern.c_str(), release.name.c_str(), 0) != 0) continue;
      found = true;
      used.insert(pattern);
    }
    EXPECT_TRUE(found) << release.name << " is in the table of releases, but not in README";
  }
  EXPECT_EQ(used.size(), patterns.size()) << "README names a release that is not in the table";
}

TEST(ReadmeTest, ListsEveryFormatOfCorpora) {
  Names names = InRow("corpora");
  Names layouts;
  for (const ContextLayout layout :
       {ContextLayout::kPacked, ContextLayout::kSplit, ContextLayout::kTruncated}) {
    layouts.emplace_back(ContextLayoutName(layout));
    const auto at = std::find(names.begin(), names.end(), layouts.back());
    ASSERT_NE(at, names.end()) << layouts.back();
    names.erase(at);
  }
  std::set<DocumentFormat> formats;
  std::set<Compression> compressions;
  for (const std::string& name : names) {
    EXPECT_TRUE(absl::StrContains(kDocumentFileNames, name)) << name;
    if (FormatOfName("x" + name) != DocumentFormat::kByName) {
      formats.insert(FormatOfName("x" + name));
    } else {
      compressions.insert(CompressionOfName("x.txt" + name));
    }
  }
  EXPECT_THAT(formats, ElementsAre(DocumentFormat::kText, DocumentFormat::kJsonLines,
                                   DocumentFormat::kCsv, DocumentFormat::kTsv));
  EXPECT_FALSE(compressions.contains(Compression::kNone));
  EXPECT_EQ(compressions.size(), 2u);
}

}  // namespace
}  // namespace featurescope
