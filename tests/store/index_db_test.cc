#include "server/store/index_db.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <set>
#include <thread>

#include "tests/base/temp_dir.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kTokens = 40;

// Features whose statistics have many ties; every third is dead.
FeatureRow Stats(uint32_t f) {
  FeatureRow row;
  row.feature = f;
  if (f % 3 != 2) {
    row.n_active = f + 1;
    row.density = (f % 7) * 0.01;
    row.mean = (f % 5) * 0.5;
    row.max = f % 4;
    row.std = 0.25 * (f % 2);
    row.skewness = -1.0 * (f % 11);
    row.kurtosis = f * 0.001;
    row.p50 = 1, row.p90 = 2, row.p99 = 3;
    row.top_token = f % kTokens;
  }
  row.decoder_norm = 1;
  row.top_logit_token = (f * 7) % kTokens;
  return row;
}

FeatureDetailRow Detail(uint32_t f) {
  FeatureDetailRow detail;
  detail.histogram.counts = {f, 1, 1ull << 40};
  detail.top_logits = {{(f * 7) % kTokens, 2.5f}, {(f * 7 + 1) % kTokens, 1.25f}};
  detail.bottom_logits = {{3, -0.5f}};
  detail.bands = {{0.5f, 1.0f, 0.25}, {0.0f, 0.5f, 0.75}};
  return detail;
}

ExampleRow MakeExample(uint32_t f, uint32_t band, uint32_t rank) {
  ExampleRow example;
  example.feature = f, example.band = band, example.rank = rank;
  example.context = 1ull << 33, example.position = 5, example.window_start = 3;
  example.activation = 4.5f + static_cast<float>(rank);
  example.tokens = {1, 70000, f, 2};
  example.acts = {0, 0, example.activation, 0.5f};
  return example;
}

IndexInfoRow Info(uint32_t d_sae) {
  IndexInfoRow info;
  info.sae_id = "s", info.corpus_id = "c", info.model_id = "m", info.hook_name = "hook_embed";
  info.d_sae = d_sae, info.n_tokens = 1000, info.seed = ~0ull, info.mean_l0 = 2.5;
  info.explained_variance = 0.75, info.dtype = "float32", info.created = "2026-01-01T00:00:00Z";
  info.seconds = 1.5, info.log10_density = {{-3, -2, -1}, {4, 5}};
  info.top_examples = 2, info.bands = 2, info.examples_per_band = 1, info.window = 2;
  return info;
}

std::unique_ptr<IndexWriter> Begin(const std::string& path) {
  auto writer = IndexWriter::Create(path);
  EXPECT_TRUE(writer.ok()) << writer.status();
  std::vector<TokenRow> tokens;
  for (uint32_t id = 0; id < kTokens; ++id) {
    tokens.push_back({id, absl::StrCat(" tok", id), id == 0});
  }
  tokens[5].bytes = std::string("\xff\0", 2);
  EXPECT_TRUE((*writer)->AddTokens(tokens).ok());
  EXPECT_TRUE((*writer)->SetHistogramEdges({0.5f, 1.0f, 2.0f, 4.0f}).ok());
  return *std::move(writer);
}

absl::Status Write(const std::string& path, uint32_t d_sae) {
  const auto writer = Begin(path);
  for (uint32_t f = 0; f < d_sae; ++f) {
    const std::vector<ExampleRow> examples = {MakeExample(f, 1, 0), MakeExample(f, 0, 1),
                                              MakeExample(f, 0, 0), MakeExample(f, 2, 0)};
    const absl::Status status = writer->AddFeature(Stats(f), Detail(f), examples);
    if (!status.ok()) return status;
  }
  return writer->Finish(Info(d_sae));
}

class IndexDbTest : public ::testing::Test {
 protected:
  std::shared_ptr<const IndexReader> Make(uint32_t d_sae) {
    const absl::Status status = Write(path_, d_sae);
    EXPECT_TRUE(status.ok()) << status;
    auto reader = IndexReader::Open(path_);
    EXPECT_TRUE(reader.ok()) << reader.status();
    return *std::move(reader);
  }
  // All pages of a query, one after another.
  std::vector<uint32_t> AllPages(const IndexReader& reader, FeatureQuery query) {
    std::vector<uint32_t> features;
    do {
      const auto page = reader.ListFeatures(query);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) return features;
      EXPECT_LE(page->features.size(), query.page_size);
      total_ = page->total;
      for (const FeatureRow& row : page->features) features.push_back(row.feature);
      query.page_token = page->next_page_token;
    } while (!query.page_token.empty());
    return features;
  }

  TempDir dir_;
  std::string path_ = dir_ / "s@c.db";
  uint64_t total_ = 0;
};

TEST_F(IndexDbTest, EverythingComesBackAsItWasWritten) {
  const auto reader = Make(10);
  const IndexInfoRow& info = reader->info();
  EXPECT_EQ(info.sae_id, "s");
  EXPECT_EQ(info.hook_name, "hook_embed");
  EXPECT_EQ(info.seed, ~0ull);
  EXPECT_EQ(info.explained_variance, 0.75);
  EXPECT_EQ(info.seconds, 1.5);
  EXPECT_EQ(info.window, 2u);
  EXPECT_THAT(info.log10_density.edges, ElementsAre(-3, -2, -1));
  EXPECT_EQ(info.content_hash.size(), 64u);

  const FeatureRow row = reader->GetFeature(4).value();
  EXPECT_EQ(row.n_active, 5u);
  EXPECT_EQ(row.density, 0.04);
  EXPECT_EQ(row.skewness, -4.0);
  EXPECT_EQ(row.p99, 3.0);
  EXPECT_EQ(row.top_token, 4u);
  EXPECT_EQ(row.top_logit_token, 28u);
  EXPECT_EQ(reader->GetFeature(2)->top_token, std::nullopt);

  const FeatureDetailRow detail = reader->GetFeatureDetail(4).value();
  EXPECT_THAT(detail.histogram.edges, ElementsAre(0.5f, 1.0f, 2.0f, 4.0f));
  EXPECT_THAT(detail.histogram.counts, ElementsAre(4, 1, 1ull << 40));
  EXPECT_EQ(detail.top_logits[1].token, 29u);
  EXPECT_EQ(detail.bottom_logits[0].effect, -0.5f);
  EXPECT_EQ(detail.bands[0].share, 0.25);
  EXPECT_EQ(detail.bands[1].high, 0.5f);

  EXPECT_EQ(reader->Token(7).bytes, " tok7");
  EXPECT_EQ(reader->Token(5).bytes, std::string("\xff\0", 2));
  EXPECT_TRUE(reader->Token(0).special);
  EXPECT_EQ(reader->Token(123456).bytes, "");
  EXPECT_TRUE(reader->Verify().ok()) << reader->Verify();
}

TEST_F(IndexDbTest, ExamplesComeByBandAndRank) {
  const auto reader = Make(3);
  const std::vector<ExampleRow> top = reader->ListExamples(1, 0, 0, 20).value();
  ASSERT_EQ(top.size(), 2u);
  EXPECT_EQ(top[0].rank, 0u);
  EXPECT_EQ(top[1].rank, 1u);
  EXPECT_EQ(top[0].feature, 1u);
  EXPECT_EQ(top[0].context, 1ull << 33);
  EXPECT_EQ(top[0].window_start, 3u);
  EXPECT_THAT(top[0].tokens, ElementsAre(1, 70000, 1, 2));
  EXPECT_THAT(top[0].acts, ElementsAre(0.0f, 0.0f, 4.5f, 0.5f));
  EXPECT_EQ(reader->ListExamples(1, 0, 0, 1)->size(), 1u);
  const std::vector<ExampleRow> bands = reader->ListExamples(1, 1, kMaxIndexBands, 20).value();
  ASSERT_EQ(bands.size(), 2u);
  EXPECT_EQ(bands[0].band, 1u);
  EXPECT_EQ(bands[1].band, 2u);
  EXPECT_TRUE(absl::IsOutOfRange(reader->ListExamples(3, 0, 0, 1).status()));
  EXPECT_EQ(reader->GetFeature(3).status().message(), "feature 3 is out of range [0, 3)");
}

TEST_F(IndexDbTest, PagesNeitherRepeatNorMissAFeatureUnderTies) {
  constexpr uint32_t kFeatures = 211;
  const auto reader = Make(kFeatures);
  for (int order = 0; order < kFeatureOrders; ++order) {
    for (const bool descending : {false, true}) {
      for (const uint32_t page_size : {1u, 7u, 100u, 1000u}) {
        FeatureQuery query;
        query.order = static_cast<FeatureOrder>(order);
        query.descending = descending;
        query.page_size = page_size;
        const std::vector<uint32_t> paged = AllPages(*reader, query);
        EXPECT_EQ(total_, kFeatures);
        query.page_size = kMaxFeaturePageSize;
        EXPECT_EQ(paged, AllPages(*reader, query));
        EXPECT_EQ(std::set<uint32_t>(paged.begin(), paged.end()).size(), kFeatures);
      }
    }
  }
}

TEST_F(IndexDbTest, OrderIsByValueThenByFeature) {
  const auto reader = Make(50);
  FeatureQuery query;
  query.order = FeatureOrder::kMax;
  query.descending = true;
  const std::vector<uint32_t> features = AllPages(*reader, query);
  for (size_t i = 1; i < features.size(); ++i) {
    const double before = Stats(features[i - 1]).max, after = Stats(features[i]).max;
    EXPECT_TRUE(before > after || (before == after && features[i - 1] < features[i]));
  }
}

TEST_F(IndexDbTest, FiltersGiveWhatAScanGives) {
  const auto reader = Make(200);
  FeatureQuery query;
  query.order = FeatureOrder::kKurtosis;
  query.page_size = 9;
  query.filter.min_density = 0.02;
  query.filter.max_density = 0.05;
  query.filter.max_mean = 1.5;
  query.filter.min_mean = 0.5;
  query.filter.min_max = 1;
  query.filter.max_max = 2;
  query.filter.alive_only = true;
  std::vector<uint32_t> expected;
  for (uint32_t f = 0; f < 200; ++f) {
    const FeatureRow row = Stats(f);
    if (row.n_active > 0 && row.density >= 0.02 && row.density <= 0.05 && row.mean >= 0.5 &&
        row.mean <= 1.5 && row.max >= 1 && row.max <= 2) {
      expected.push_back(f);
    }
  }
  ASSERT_FALSE(expected.empty());
  EXPECT_EQ(AllPages(*reader, query), expected);  // kurtosis rises with the feature
  EXPECT_EQ(total_, expected.size());
}

TEST_F(IndexDbTest, TokenTextFindsTopTokenAndTopLogits) {
  const auto reader = Make(100);
  FeatureQuery query;
  query.filter.token_text = "tok39";
  query.page_size = 3;
  std::vector<uint32_t> expected;
  for (uint32_t f = 0; f < 100; ++f) {
    if (Stats(f).top_token == 39u || f * 7 % kTokens == 39 || (f * 7 + 1) % kTokens == 39) {
      expected.push_back(f);
    }
  }
  ASSERT_FALSE(expected.empty());
  EXPECT_EQ(AllPages(*reader, query), expected);
  query.filter.token_text = "no such text";
  EXPECT_TRUE(AllPages(*reader, query).empty());
}

TEST_F(IndexDbTest, PageTokensOfAnotherQueryOrMadeUpAreRefused) {
  const auto reader = Make(100);
  FeatureQuery query;
  query.order = FeatureOrder::kMean;
  query.page_size = 10;
  const std::string token = reader->ListFeatures(query)->next_page_token;
  ASSERT_FALSE(token.empty());
  query.page_token = token;
  EXPECT_TRUE(reader->ListFeatures(query).ok());
  FeatureQuery other = query;
  other.order = FeatureOrder::kMax;
  EXPECT_TRUE(absl::IsInvalidArgument(reader->ListFeatures(other).status()));
  other = query;
  other.descending = true;
  EXPECT_TRUE(absl::IsInvalidArgument(reader->ListFeatures(other).status()));
  other = query;
  other.filter.alive_only = true;
  EXPECT_TRUE(absl::IsInvalidArgument(reader->ListFeatures(other).status()));
  for (const std::string& bad : {std::string("x"), std::string("////"), token + "A",
                                 token.substr(0, token.size() - 2), std::string(5000, 'A')}) {
    query.page_token = bad;
    EXPECT_TRUE(absl::IsInvalidArgument(reader->ListFeatures(query).status())) << bad;
  }
}

TEST_F(IndexDbTest, PageSizesOutOfRangeAreRefused) {
  const auto reader = Make(3);
  for (const uint32_t size : {0u, kMaxFeaturePageSize + 1}) {
    FeatureQuery query;
    query.page_size = size;
    EXPECT_TRUE(absl::IsInvalidArgument(reader->ListFeatures(query).status()));
  }
}

TEST_F(IndexDbTest, AliveNeighboursSkipTheDead) {
  const auto reader = Make(9);  // 2, 5 and 8 are dead
  EXPECT_EQ(reader->NextAlive(1), 3u);
  EXPECT_EQ(reader->NextAlive(7), std::nullopt);
  EXPECT_EQ(reader->PreviousAlive(3), 1u);
  EXPECT_EQ(reader->PreviousAlive(0), std::nullopt);
}

TEST_F(IndexDbTest, AnIndexAppearsOnlyWhenComplete) {
  {
    const auto writer = Begin(path_);
    ASSERT_TRUE(writer->AddFeature(Stats(0), Detail(0), {}).ok());
    EXPECT_FALSE(std::filesystem::exists(path_));
    EXPECT_TRUE(absl::IsInvalidArgument(writer->Finish(Info(2))));
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
  EXPECT_TRUE(absl::IsNotFound(IndexReader::Open(path_).status()));
}

TEST_F(IndexDbTest, ValuesThatCannotBeComparedAreRefused) {
  const auto writer = Begin(path_);
  FeatureRow stats = Stats(0);
  stats.kurtosis = std::numeric_limits<double>::quiet_NaN();
  const absl::Status status = writer->AddFeature(stats, Detail(0), {});
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("kurtosis"));
  ExampleRow example = MakeExample(0, 0, 0);
  example.acts[1] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(absl::IsInvalidArgument(writer->AddFeature(Stats(0), Detail(0), {example})));
  EXPECT_TRUE(absl::IsInvalidArgument(
      writer->AddFeature(Stats(0), Detail(0), {MakeExample(0, 0, 0), MakeExample(0, 0, 0)})));
  EXPECT_TRUE(absl::IsInvalidArgument(writer->AddFeature(Stats(1), Detail(1), {})));
  FeatureDetailRow detail = Detail(0);
  detail.histogram.counts.push_back(1);
  EXPECT_TRUE(absl::IsInvalidArgument(writer->AddFeature(Stats(0), detail, {})));
}

TEST_F(IndexDbTest, TheSameContentHasTheSameHash) {
  const std::string first = Make(20)->info().content_hash;
  EXPECT_EQ(Make(20)->info().content_hash, first);
  EXPECT_NE(Make(21)->info().content_hash, first);
}

TEST_F(IndexDbTest, AReplacedFileStaysReadableForItsReaders) {
  const auto old = Make(30);
  const auto fresh = Make(12);
  EXPECT_EQ(old->GetFeatureDetail(29)->histogram.counts[0], 29u);
  EXPECT_TRUE(old->Verify().ok());
  EXPECT_EQ(fresh->info().d_sae, 12u);
}

TEST_F(IndexDbTest, ManyThreadsReadAtOnce) {
  const auto reader = Make(64);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; i < 200; ++i) {
        const uint32_t f = (i * 13 + static_cast<uint32_t>(t)) % 64;
        ASSERT_EQ(reader->GetFeatureDetail(f)->histogram.counts[0], f);
        ASSERT_EQ(reader->ListExamples(f, 0, 0, 5)->size(), 2u);
        FeatureQuery query;
        query.order = static_cast<FeatureOrder>(i % kFeatureOrders);
        query.filter.token_text = absl::StrCat("tok", i % 20);
        ASSERT_TRUE(reader->ListFeatures(query).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(IndexDbTest, ATruncatedFileSaysHowToRebuildIt) {
  ASSERT_TRUE(Write(path_, 300).ok());
  const auto size = std::filesystem::file_size(path_);
  for (const double share : {0.0, 0.001, 0.3, 0.6, 0.95}) {
    std::filesystem::copy_file(path_, dir_ / "t@u.db",
                               std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(dir_ / "t@u.db",
                                 static_cast<uintmax_t>(share * static_cast<double>(size)));
    const auto reader = IndexReader::Open(dir_ / "t@u.db");
    ASSERT_TRUE(absl::IsDataLoss(reader.status())) << share << ": " << reader.status();
    EXPECT_THAT(std::string(reader.status().message()), HasSubstr("t@u.db"));
    EXPECT_THAT(std::string(reader.status().message()),
                HasSubstr("featurescope index --sae t --corpus u"));
  }
}

// Whatever bytes are wrong: an error or an answer, never a crash, and Verify finds it.
TEST_F(IndexDbTest, GarbledFilesNeverCrashAndDoNotVerify) {
  ASSERT_TRUE(Write(path_, 100).ok());
  std::string original;
  {
    std::ifstream in(path_, std::ios::binary);
    original.assign(std::istreambuf_iterator<char>(in), {});
  }
  std::mt19937 random(7);
  int found = 0, changed = 0;
  for (int round = 0; round < 150; ++round) {
    std::string bytes = original;
    const size_t at = random() % bytes.size();
    for (size_t i = at; i < std::min(bytes.size(), at + 64); ++i) {
      bytes[i] = static_cast<char>(random());
    }
    const std::string path = dir_ / absl::StrCat(round, "@g.db");
    std::ofstream(path, std::ios::binary) << bytes;
    const auto reader = IndexReader::Open(path);
    ++changed;
    if (!reader.ok()) {
      ++found;
      continue;
    }
    for (uint32_t f = 0; f < (*reader)->info().d_sae; f += 3) {
      (void)(*reader)->GetFeatureDetail(f);
      (void)(*reader)->ListExamples(f, 0, kMaxIndexBands, 100);
    }
    FeatureQuery query;
    query.filter.token_text = "tok1";
    (void)(*reader)->ListFeatures(query);
    found += !(*reader)->Verify().ok();
  }
  // Bytes in unused parts of pages, and time stamps, carry nothing.
  EXPECT_GT(found, changed / 2);
}

TEST_F(IndexDbTest, AnotherApplicationsFileAndANewerFormatAreRefused) {
  {
    auto db = Database::Open(path_, OpenMode::kWriter);
    ASSERT_TRUE((*db)->Execute("CREATE TABLE t(x)").ok());
  }
  EXPECT_TRUE(absl::IsDataLoss(IndexReader::Open(path_).status()));
  std::filesystem::remove(path_);
  ASSERT_TRUE(Write(path_, 2).ok());
  {
    auto db = Database::Open(path_, OpenMode::kWriter);
    ASSERT_TRUE((*db)->Execute("PRAGMA journal_mode=DELETE; PRAGMA user_version=9").ok());
  }
  const auto newer = IndexReader::Open(path_);
  EXPECT_TRUE(absl::IsFailedPrecondition(newer.status())) << newer.status();
}

// A file size limit stands for the full disk; in a child, since it cannot be taken back.
TEST_F(IndexDbTest, AFullDiskIsResourceExhaustedAndLeavesNothing) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100000, 100000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::_exit(absl::IsResourceExhausted(Write(path_, 5000)) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

}  // namespace
}  // namespace featurescope
