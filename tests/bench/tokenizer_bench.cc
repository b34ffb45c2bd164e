// Tokenizer throughput on one thread, bytes of text per second.
//
//   BM_EncodeDemo      the demo model's byte-level BPE on its own corpus
//   BM_EncodeColdWords the same on words that the cache never saw
//   BM_Decode          the ids back to text

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "server/text/tokenizer.h"

namespace featurescope {
namespace {

const std::string& DemoDir() {
  static const auto* dir = new std::string(FEATURESCOPE_SOURCE_DIR "/deploy/demo");
  return *dir;
}

std::shared_ptr<const Tokenizer> DemoTokenizer() {
  auto tokenizer = Tokenizer::Load(DemoDir());
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status() << "\n";
    exit(1);
  }
  return *tokenizer;
}

// The corpus file as it is: JSON Lines is text, too.
std::string CorpusText() {
  std::ifstream in(DemoDir() + "/corpus.jsonl", std::ios::binary);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

std::string RandomWords(size_t bytes) {
  std::mt19937 random(1);
  std::string text;
  while (text.size() < bytes) {
    text.push_back(' ');
    for (size_t i = 3 + random() % 8; i > 0; --i) {
      text.push_back(static_cast<char>('a' + random() % 26));
    }
  }
  return text;
}

void Encode(benchmark::State& state, const std::string& text) {
  const auto tokenizer = DemoTokenizer();
  size_t n_tokens = 0;
  for (auto _ : state) n_tokens += tokenizer->Encode(text)->size();
  state.SetBytesProcessed(static_cast<int64_t>(text.size()) * state.iterations());
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(n_tokens), benchmark::Counter::kIsRate);
}

void BM_EncodeDemo(benchmark::State& state) { Encode(state, CorpusText()); }
BENCHMARK(BM_EncodeDemo)->Unit(benchmark::kMillisecond);

void BM_EncodeColdWords(benchmark::State& state) { Encode(state, RandomWords(4 << 20)); }
BENCHMARK(BM_EncodeColdWords)->Unit(benchmark::kMillisecond);

void BM_Decode(benchmark::State& state) {
  const auto tokenizer = DemoTokenizer();
  const std::string text = CorpusText();
  const std::vector<uint32_t> ids = *tokenizer->Encode(text);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Decode(ids));
  state.SetBytesProcessed(static_cast<int64_t>(text.size()) * state.iterations());
}
BENCHMARK(BM_Decode)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace featurescope

BENCHMARK_MAIN();
