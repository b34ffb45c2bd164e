// Repositories, folders, models and hook points of published SAEs, as their authors and the
// registry of SAELens (sae_lens/pretrained_saes.yaml) give them.
#include "server/hub/sae_release_table.h"

#include <array>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace featurescope {
namespace {

using Table = std::vector<SaeRelease>;

constexpr char kGpt2[] = "openai-community/gpt2";

SaeReleaseOptions Centred() {
  SaeReleaseOptions options;
  options.center_writing_weights = true;
  options.note =
      "Trained on TransformerLens' default processing: without center_writing_weights its later "
      "layers reconstruct badly.";
  return options;
}

SaeReleaseOptions Contexts(int tokens, bool prepend_bos) {
  SaeReleaseOptions options;
  options.prepend_bos = prepend_bos;
  options.context_size = tokens;
  return options;
}

// The id is the folder and the hook point at once.
SaeIdPattern SameName(const std::string& hook) { return {hook, hook, hook, "", 0}; }

void AddGpt2(Table* table) {
  table->push_back({"gpt2-small-res-jb",
                    "jbloom/GPT2-Small-SAEs-Reformatted",
                    kGpt2,
                    {SameName("blocks.{L}.hook_resid_pre"), SameName("blocks.{L}.hook_resid_post")},
                    Centred(),
                    "GPT-2 small, residual stream, 24576 features (J. Bloom)"});
  table->push_back({"gpt2-small-res-jb-feature-splitting",
                    "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
                    kGpt2,
                    {{"blocks.8.hook_resid_pre_{N}", "blocks.8.hook_resid_pre_{N}",
                      "blocks.8.hook_resid_pre", "", 0}},
                    Centred(),
                    "GPT-2 small, layer 8, 768 to 98304 features (J. Bloom)"});

  // The version in the folder's name, and by how much the activations were scaled.
  constexpr std::array<std::pair<int, double>, 12> kMlpLayers = {{{1, 1.049317316132615},
                                                                  {0, 2.3693984005104283},
                                                                  {0, 1.6411934982190302},
                                                                  {0, 1.8958522157897557},
                                                                  {0, 1.81673478700627},
                                                                  {0, 1.550234472245924},
                                                                  {0, 1.3237742807210804},
                                                                  {0, 1.1042905114723296},
                                                                  {1, 0.9123762783479742},
                                                                  {0, 0.6955335635232373},
                                                                  {0, 0.3619728926727644},
                                                                  {2, 0.2851548652550073}}};
  SaeRelease mlp = {"gpt2-small-mlp-tm",
                    "tommmcgrath/gpt2-small-mlp-out-saes",
                    kGpt2,
                    {},
                    Centred(),
                    "GPT-2 small, MLP output, 24576 features (T. McGrath)"};
  for (size_t layer = 0; layer < kMlpLayers.size(); ++layer) {
    const std::string hook = absl::StrCat("blocks.", layer, ".hook_mlp_out");
    mlp.ids.push_back({hook,
                       absl::StrCat("sae_group_gpt2_", hook, "_24576:v", kMlpLayers[layer].first),
                       hook, "", kMlpLayers[layer].second});
  }
  table->push_back(std::move(mlp));

  // OpenAI's v5 TopK SAEs. Layer normalisation makes them indifferent to centring.
  for (const char* width : {"32k", "128k"}) {
    for (const auto& [site, hook] : {std::pair{"resid-post", "hook_resid_post"},
                                     {"resid-mid", "hook_resid_mid"},
                                     {"attn-out", "hook_attn_out"},
                                     {"mlp-out", "hook_mlp_out"}}) {
      const bool suffix = absl::string_view(site) == "resid-post" &&
                          absl::string_view(width) == "32k";  // its folders end in .pt
      table->push_back(
          {absl::StrCat("gpt2-small-", site, "-v5-", width),
           absl::StrCat("jbloom/GPT2-Small-OAI-v5-", width, "-", site, "-SAEs"),
           kGpt2,
           {{absl::StrCat("blocks.{L}.", hook),
             absl::StrCat("v5_", width, "_layer_{L}", suffix ? ".pt" : ""),
             absl::StrCat("blocks.{L}.", hook), "", 0}},
           {},
           absl::StrCat("GPT-2 small, ", hook, ", TopK(32), ", width, " features (OpenAI v5)")});
    }
  }
}

void AddGemma(Table* table) {
  struct Row {
    const char *size, *site, *model, *hook, *hook_out, *about;
  };
  constexpr Row kRows[] = {
      {"2b-pt", "res", "google/gemma-2-2b", "hook_resid_post", "", "Gemma 2 2B, residual stream"},
      {"2b-pt", "mlp", "google/gemma-2-2b", "hook_mlp_out", "", "Gemma 2 2B, MLP output"},
      {"2b-pt", "att", "google/gemma-2-2b", "attn.hook_z", "", "Gemma 2 2B, attention heads"},
      {"2b-pt", "transcoders", "google/gemma-2-2b", "ln2.hook_normalized", "hook_mlp_out",
       "Gemma 2 2B, MLP transcoders"},
      {"9b-pt", "res", "google/gemma-2-9b", "hook_resid_post", "", "Gemma 2 9B, residual stream"},
      {"9b-pt", "mlp", "google/gemma-2-9b", "hook_mlp_out", "", "Gemma 2 9B, MLP output"},
      {"9b-pt", "att", "google/gemma-2-9b", "attn.hook_z", "", "Gemma 2 9B, attention heads"},
      {"9b-it", "res", "google/gemma-2-9b-it", "hook_resid_post", "",
       "Gemma 2 9B instruct, residual stream"},
      {"27b-pt", "res", "google/gemma-2-27b", "hook_resid_post", "",
       "Gemma 2 27B, residual stream"},
  };
  for (const Row& row : kRows) {
    const std::string name = absl::StrCat("gemma-scope-", row.size, "-", row.site);
    const std::string hook = absl::StrCat("blocks.{L}.", row.hook);
    const std::string out =
        row.hook_out[0] == '\0' ? "" : absl::StrCat("blocks.{L}.", row.hook_out);
    SaeRelease release = {
        name, absl::StrCat("google/", name), row.model,
        {},   Contexts(1024, true),          absl::StrCat(row.about, " (Gemma Scope, JumpReLU)")};
    for (const char* end : {"average_l0_{N}", "canonical"}) {
      const std::string id = absl::StrCat("layer_{L}/width_{W}/", end);
      release.ids.push_back({id, id, hook, out, 0});
    }
    table->push_back(std::move(release));
  }

  SaeRelease first = {"gemma-2b-res-jb",
                      "jbloom/Gemma-2b-Residual-Stream-SAEs",
                      "google/gemma-2b",
                      {},
                      {},
                      "Gemma 2B, residual stream, 16384 features (J. Bloom)"};
  for (const auto& [layer, end, scale] : {std::tuple{0, "_anthropic", 0.0},
                                          {6, "_anthropic_fast_lr", 0.0},
                                          {10, "", 0.0},
                                          {12, "", 0.21381938399317255},
                                          {17, "", 0.0}}) {
    const std::string hook = absl::StrCat("blocks.", layer, ".hook_resid_post");
    first.ids.push_back({hook, absl::StrCat("gemma_2b_", hook, "_16384", end), hook, "", scale});
  }
  table->push_back(std::move(first));
  table->push_back({"gemma-2b-it-res-jb",
                    "jbloom/Gemma-2b-IT-Residual-Stream-SAEs",
                    "google/gemma-2b-it",
                    {{"blocks.12.hook_resid_post", "gemma_2b_it_blocks.12.hook_resid_post_16384",
                      "blocks.12.hook_resid_post", "", 0}},
                    {},
                    "Gemma 2B instruct, layer 12, 16384 features (J. Bloom)"});
}

void AddLlama(Table* table) {
  for (const char* expansion : {"8x", "32x"}) {
    for (const auto& [site, lower, hook, about] :
         {std::tuple{"R", "r", "hook_resid_post", "residual stream"},
          {"M", "m", "hook_mlp_out", "MLP output"},
          {"A", "a", "hook_attn_out", "attention output"}}) {
      table->push_back({absl::StrCat("llama_scope_lx", lower, "_", expansion),
                        absl::StrCat("fnlp/Llama3_1-8B-Base-LX", site, "-", expansion),
                        "meta-llama/Llama-3.1-8B",
                        {{absl::StrCat("l{L}", lower, "_", expansion),
                          absl::StrCat("Llama3_1-8B-Base-L{L}", site, "-", expansion),
                          absl::StrCat("blocks.{L}.", hook), "", 0}},
                        Contexts(1024, true),
                        absl::StrCat("Llama 3.1 8B, ", about, ", ", expansion, " (Llama Scope)")});
    }
  }
  const auto mixture = [](const std::string& id, const std::string& folder) {
    return SaeIdPattern{absl::StrCat("l{L}r_", id), absl::StrCat(folder, "/L{L}R"),
                        "blocks.{L}.hook_resid_post", "", 0};
  };
  table->push_back(
      {"llama_scope_r1_distill",
       "fnlp/Llama-Scope-R1-Distill",
       "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
       {mixture("800m_slimpajama", "800M-Slimpajama-0-OpenR1-Math-220k"),
        mixture("400m_slimpajama_400m_openr1_math", "400M-Slimpajama-400M-OpenR1-Math-220k"),
        mixture("800m_openr1_math", "0-Slimpajama-800M-OpenR1-Math-220k")},
       Contexts(1024, true),
       "DeepSeek-R1-Distill-Llama-8B, residual stream, 32768 features (Llama Scope)"});

  SaeReleaseOptions reasoning = Contexts(1024, false);
  reasoning.note =
      "Trained on LMSYS-Chat-1M and OpenThoughts without the tokens 128000 and 128001.";
  table->push_back({"deepseek-r1-distill-llama-8b-lmsys-openthoughts",
                    "andreuka18/deepseek-r1-distill-llama-8b-lmsys-openthoughts",
                    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
                    {SameName("blocks.{L}.hook_resid_post")},
                    reasoning,
                    "DeepSeek-R1-Distill-Llama-8B, layer 19, 65536 features (arXiv:2503.18878)"});
  table->push_back({"llama-3-8b-it-res-jh",
                    "Juliushanhanhan/llama-3-8b-it-res",
                    "meta-llama/Meta-Llama-3-8B-Instruct",
                    {SameName("blocks.{L}.hook_resid_post")},
                    {},
                    "Llama 3 8B instruct, layer 25, residual stream (J. Han)"});
}

void AddPythia(Table* table) {
  // Trained with sparsify: folders are named after the Hugging Face modules.
  const auto sparsify = [table](const std::string& name, const std::string& model,
                                const std::string& about) {
    table->push_back(
        {name,
         absl::StrCat("EleutherAI/", name),
         model,
         {{"layers.{L}", "layers.{L}", "blocks.{L}.hook_resid_post", "", 0},
          {"layers.{L}.mlp", "layers.{L}.mlp", "blocks.{L}.hook_mlp_out", "", 0},
          {"layers.{L}.attention", "layers.{L}.attention", "blocks.{L}.hook_attn_out", "", 0}},
         {},
         absl::StrCat(about, ", TopK (EleutherAI)")});
  };
  for (const char* variant : {"", "-deduped"}) {
    for (const char* size : {"70m", "160m"}) {
      sparsify(absl::StrCat("sae-pythia-", size, variant, "-32k"),
               absl::StrCat("EleutherAI/pythia-", size, variant),
               absl::StrCat("Pythia ", size, variant, ", 32768 features"));
    }
  }
  sparsify("sae-pythia-410m-65k", "EleutherAI/pythia-410m", "Pythia 410m, 65536 features");
  sparsify("sae-llama-3-8b-32x", "meta-llama/Meta-Llama-3-8B", "Llama 3 8B, 131072 features");

  // Seven architectures of one training set-up; their config.json says what each is.
  for (const auto& [power, width] : {std::pair{12, "4096"}, {14, "16384"}, {16, "65536"}}) {
    const std::string name =
        absl::StrCat("saebench_pythia-160m-deduped_width-2pow", power, "_date-0108");
    table->push_back({name,
                      absl::StrCat("adamkarvonen/", name),
                      "EleutherAI/pythia-160m-deduped",
                      {{"{A}/resid_post_layer_{L}/trainer_{N}",
                        "{A}_pythia-160m-deduped__0108/resid_post_layer_{L}/trainer_{N}",
                        "blocks.{L}.hook_resid_post", "", 0}},
                      {},
                      absl::StrCat("Pythia 160m deduped, layer 8, ", width,
                                   " features, seven architectures (SAEBench)")});
  }
}

}  // namespace

std::vector<SaeRelease> MakeSaeReleaseTable() {
  Table table;
  AddGpt2(&table);
  AddGemma(&table);
  AddLlama(&table);
  AddPythia(&table);
  return table;
}

}  // namespace featurescope
