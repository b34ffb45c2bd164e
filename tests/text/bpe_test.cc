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
  for (int b = 0; b < 256; ++b)
    merges.SetByteSymbol(static_cast<uint8_t>(b), static_cast<uint32_t>(b));
  merges.AddMerge('b', 'c', 0, 300);
  merges.AddMerge('a', 'b', 1, 301);
  merges.AddMerge('a', 300, 2, 302);
  Ids ids;
  merges.EncodeWord("abc", &ids);
  merges.EncodeWord("ab", &ids);
  merges.EncodeWord("", &ids);
  EXPECT_THAT(ids, ElementsAre(302, 301));
}

TEST(BpeTest, ShortAndLongWordsFollowTheDefinition) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    // Random merges over three letters; products may be re-used and have any rank.
    BpeMerges merges;
    MergeTable table;
    for (int b = 0; b < 256; ++b)
      merges.SetByteSymbol(static_cast<uint8_t>(b), static_cast<uint32_t>(b));
    Ids symbols = {'a', 'b', 'c'};
    for (uint32_t i = 0; i < 30; ++i) {
      const uint32_t left = symbols[random() % symbols.size()];
      const uint32_t right = symbols[random() % symbols.size()];
      const uint32_t rank = static_cast<uint32_t>(random() % 1000) * 30 + i;
      merges.AddMerge(left, right, rank, 300 + i);
      table.try_emplace({left, right}, std::make_pair(rank, 300 + i));
      symbols.push_back(300 + i);
    }
    for (size_t length : {size_t{1}, size_t{2}, size_t{5}, size_t{31}, size_t{32}, size_t{33},
                          size_t{34}, size_t{80}}) {
      std::string word;
      for (size_t i = 0; i < length; ++i) word.push_back(static_cast<char>('a' + random() % 3));
      Ids ids;
      merges.EncodeWord(word, &ids);
      ASSERT_EQ(ids, EncodeSlowly(table, Ids(word.begin(), word.end()))) << word;
    }
  }
}

TEST(BpeTest, AWordOfMegabytesIsEncodedInReasonableTime) {
  BpeMerges merges;
  for (int b = 0; b < 256; ++b)
    merges.SetByteSymbol(static_cast<uint8_t>(b), static_cast<uint32_t>(b));
  uint32_t last = 'a';
  for (uint32_t i = 0; i < 10; ++i) {
    merges.AddMerge(last, last, i, 300 + i);
    last = 300 + i;
  }
  Ids ids;
  merges.EncodeWord(std::string(1 << 20, 'a'), &ids);
  EXPECT_EQ(ids, Ids(1 << 10, 309));
}

}  // namespace
}  // namespace featurescope
