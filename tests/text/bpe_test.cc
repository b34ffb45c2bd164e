#include "server/text/bpe.h"

#include <map>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace featurescope {
namespace {

using ::testing::ElementsAre;
using Ids = std::vector<uint32_t>;
using MergeTable = std::map<std::pair<uint32_t, uint32_t>, std::pair<uint32_t, uint32_t>>;

// The definition, as slow as it is short: of all pairs the lowest rank, of those the leftmost.
Ids EncodeSlowly(const MergeTable& merges, Ids ids) {
  while (true) {
    size_t best = ids.size();
    uint32_t best_rank = UINT32_MAX;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = merges.find({ids[i], ids[i + 1]});
      if (found != merges.end() && found->second.first < best_rank) {
        best_rank = found->second.first;
        best = i;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = merges.at({ids[best], ids[best + 1]}).second;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(BpeTest, LowestRankGoesFirst) {
  BpeMerges merges;
  merges.AddMerge('b', 'c', 0, 300);
  merges.AddMerge('a', 'b', 1, 301);
  merges.AddMerge('a', 300, 2, 302);
  Ids ids;
  merges.Merge({'a', 'b', 'c'}, &ids);
  merges.Merge({'a', 'b'}, &ids);
  merges.Merge({}, &ids);
  EXPECT_THAT(ids, ElementsAre(302, 301));
}

TEST(BpeTest, ShortAndLongWordsFollowTheDefinition) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    // Random merges over three letters; products may be re-used and have any rank.
    BpeMerges merges;
    MergeTable table;
    Ids symbols = {'a', 'b', 'c'};
    for (uint32_t i = 0; i < 30; ++i) {
      const uint32_t left = symbols[random() % symbols.size()];
      const uint32_t right = symbols[random() % symbols.size()];
      const uint32_t rank = static_cast<uint32_t>(random() % 1000) * 30 + i;
      merges.AddMerge(left, right, rank, 300 + i);
      table.insert_or_assign({left, right}, std::make_pair(rank, 300 + i));
      symbols.push_back(300 + i);
    }
    for (size_t length : {size_t{1}, size_t{2}, size_t{5}, size_t{31}, size_t{32}, size_t{33},
                          size_t{34}, size_t{80}}) {
      Ids word;
      for (size_t i = 0; i < length; ++i) word.push_back(static_cast<uint32_t>('a' + random() % 3));
      Ids ids;
      merges.Merge(word, &ids);
      ASSERT_EQ(ids, EncodeSlowly(table, word));
    }
  }
}

TEST(BpeTest, TheLastOfEqualPairsCounts) {
  BpeMerges merges;
  merges.AddMerge('a', 'b', 0, 300);
  merges.AddMerge('b', 'c', 1, 301);
  merges.AddMerge('a', 'b', 2, 300);
  Ids ids;
  merges.Merge({'a', 'b', 'c'}, &ids);
  EXPECT_THAT(ids, ElementsAre('a', 301));
}

TEST(BpeTest, AWordOfMegabytesIsEncodedInReasonableTime) {
  BpeMerges merges;
  uint32_t last = 'a';
  for (uint32_t i = 0; i < 10; ++i) {
    merges.AddMerge(last, last, i, 300 + i);
    last = 300 + i;
  }
  Ids ids;
  merges.Merge(Ids(1 << 20, 'a'), &ids);
  EXPECT_EQ(ids, Ids(1 << 10, 309));
}

}  // namespace
}  // namespace featurescope
