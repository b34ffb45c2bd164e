#include "server/text/bpe.h"

#include <algorithm>
#include <queue>
#include <tuple>

namespace featurescope {
namespace {

uint64_t PairKey(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

}  // namespace

void BpeMerges::AddMerge(uint32_t left, uint32_t right, uint32_t rank, uint32_t merged) {
  merges_.insert_or_assign(PairKey(left, right), Result{rank, merged});
}

BpeMerges::Result BpeMerges::Find(uint32_t left, uint32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? Result{} : found->second;
}

void BpeMerges::Merge(absl::Span<const uint32_t> symbols, std::vector<uint32_t>* ids) const {
  if (symbols.size() <= kShortWord) {
    MergeShort(symbols, ids);
  } else {
    MergeLong(symbols, ids);
  }
}

// Scans for the lowest rank after every merge: quadratic, and fastest for the words of real text.
void BpeMerges::MergeShort(absl::Span<const uint32_t> word, std::vector<uint32_t>* ids) const {
  uint32_t symbols[kShortWord];
  Result merges[kShortWord];  // merges[i]: of symbols i and i + 1
  size_t n = word.size();
  std::copy(word.begin(), word.end(), symbols);
  for (size_t i = 0; i + 1 < n; ++i) merges[i] = Find(symbols[i], symbols[i + 1]);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoRank) break;
    symbols[best] = merges[best].id;
    --n;
    for (size_t i = best + 1; i < n; ++i) {
      symbols[i] = symbols[i + 1];
      merges[i - 1] = merges[i];
    }
    if (best + 1 < n) merges[best] = Find(symbols[best], symbols[best + 1]);
    if (best > 0) merges[best - 1] = Find(symbols[best - 1], symbols[best]);
  }
  ids->insert(ids->end(), symbols, symbols + n);
}

// A linked list of symbols and a heap of candidate pairs; stale candidates are dropped on the way
// out. Keeps adversarial words of megabytes from taking quadratic time.
void BpeMerges::MergeLong(absl::Span<const uint32_t> word, std::vector<uint32_t>* ids) const {
  struct Symbol {
    uint32_t id;
    bool alive = true;
    int64_t previous;
    int64_t next;  // -1: none
  };
  using Candidate = std::tuple<uint32_t, int64_t, uint32_t, uint32_t>;  // rank, at, left, right
  const int64_t n = static_cast<int64_t>(word.size());
  std::vector<Symbol> symbols(word.size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](int64_t at) {
    if (at < 0 || symbols[at].next < 0) return;
    const uint32_t left = symbols[at].id;
    const uint32_t right = symbols[symbols[at].next].id;
    if (const Result merge = Find(left, right); merge.rank != kNoRank) {
      queue.emplace(merge.rank, at, left, right);
    }
  };
  for (int64_t i = 0; i < n; ++i) {
    symbols[i] = {word[static_cast<size_t>(i)], true, i - 1, i + 1 < n ? i + 1 : -1};
  }
  for (int64_t i = 0; i + 1 < n; ++i) offer(i);
  while (!queue.empty()) {
    const auto [rank, at, left, right] = queue.top();
    queue.pop();
    Symbol& symbol = symbols[at];
    if (!symbol.alive || symbol.id != left || symbol.next < 0 || symbols[symbol.next].id != right) {
      continue;
    }
    Symbol& gone = symbols[symbol.next];
    symbol.id = Find(left, right).id;
    gone.alive = false;
    symbol.next = gone.next;
    if (symbol.next >= 0) symbols[symbol.next].previous = at;
    offer(at);
    offer(symbol.previous);
  }
  for (int64_t i = 0; i >= 0 && i < n; i = symbols[i].next) ids->push_back(symbols[i].id);
}

}  // namespace featurescope
