// Tokenizer throughput on one thread, bytes of text per second.
//
//   BM_EncodeDemo       the demo model's byte-level BPE on its own corpus
//   BM_EncodeColdWords  the same on words that the cache never saw
//   BM_Decode           the ids back to text
//   BM_EncodeShared     GPT-2's, NeoX's and Llama 2's own tokenizers on the same corpus, where the
//                       data beside the checkout is there (FEATURESCOPE_SHARED)
//   BM_Split...         Llama 3's pre-tokenizer pattern, as a scanner and as a regular expression

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "server/text/piece_matchers.h"
#include "server/text/regex.h"
#include "server/text/split_pattern.h"
#include "server/text/tokenizer.h"

namespace featurescope {
namespace {

const std::string& DemoDir() {
  static const auto* dir = new std::string(FEATURESCOPE_SOURCE_DIR "/deploy/demo");
  return *dir;
}

std::string SharedDir(const std::string& name) {
  const char* shared = std::getenv("FEATURESCOPE_SHARED");
  const std::string root = shared != nullptr ? shared : FEATURESCOPE_SOURCE_DIR "/../shared";
  return root + "/data/tokenizers/" + name;
}

std::shared_ptr<const Tokenizer> LoadOrExit(const std::string& dir) {
  auto tokenizer = Tokenizer::Load(dir);
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

void Encode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  size_t n_tokens = 0;
  for (auto _ : state) n_tokens += tokenizer.Encode(text)->size();
  state.SetBytesProcessed(static_cast<int64_t>(text.size()) * state.iterations());
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(n_tokens), benchmark::Counter::kIsRate);
}

void BM_EncodeDemo(benchmark::State& state) { Encode(state, *LoadOrExit(DemoDir()), CorpusText()); }
BENCHMARK(BM_EncodeDemo)->Unit(benchmark::kMillisecond);

void BM_EncodeColdWords(benchmark::State& state) {
  Encode(state, *LoadOrExit(DemoDir()), RandomWords(4 << 20));
}
BENCHMARK(BM_EncodeColdWords)->Unit(benchmark::kMillisecond);

void BM_EncodeShared(benchmark::State& state, const std::string& name) {
  const std::string dir = SharedDir(name);
  if (!std::filesystem::exists(dir)) {
    state.SkipWithError((dir + " is not here").c_str());
    return;
  }
  Encode(state, *LoadOrExit(dir), CorpusText());
}
BENCHMARK_CAPTURE(BM_EncodeShared, gpt2, "gpt2")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_EncodeShared, neox, "neox")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_EncodeShared, llama2, "llama2")->Unit(benchmark::kMillisecond);

void BM_Decode(benchmark::State& state) {
  const auto tokenizer = LoadOrExit(DemoDir());
  const std::string text = CorpusText();
  const std::vector<uint32_t> ids = *tokenizer->Encode(text);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Decode(ids));
  state.SetBytesProcessed(static_cast<int64_t>(text.size()) * state.iterations());
}
BENCHMARK(BM_Decode)->Unit(benchmark::kMillisecond);

void BM_SplitScanner(benchmark::State& state) {
  const std::string text = CorpusText();
  const auto pattern = SplitPattern::Scanner(MatchLlama3);
  for (auto _ : state) {
    size_t n = 0;
    (void)pattern->ForEachPart(text, [&n](size_t, size_t, bool) {
      ++n;
      return absl::OkStatus();
    });
    benchmark::DoNotOptimize(n);
  }
  state.SetBytesProcessed(static_cast<int64_t>(text.size()) * state.iterations());
}
BENCHMARK(BM_SplitScanner)->Unit(benchmark::kMillisecond);

void BM_SplitRegex(benchmark::State& state) {
  const std::string text = CorpusText();
  const auto regex =
      Regex::Compile(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                     R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
  if (!regex.ok()) {
    state.SkipWithError(regex.status().ToString().c_str());
    return;
  }
  for (auto _ : state) {
    size_t n = 0;
    (void)(*regex)->ForEachMatch(text, [&n](size_t, size_t) {
      ++n;
      return absl::OkStatus();
    });
    benchmark::DoNotOptimize(n);
  }
  state.SetBytesProcessed(static_cast<int64_t>(text.size()) * state.iterations());
}
BENCHMARK(BM_SplitRegex)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace featurescope

BENCHMARK_MAIN();
