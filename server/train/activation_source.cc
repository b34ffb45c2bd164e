#include "server/train/activation_source.h"

#include "server/train/file_source.h"
#include "server/train/model_source.h"

namespace featurescope {

absl::StatusOr<std::unique_ptr<ActivationSource>> MakeActivationSource(
    const TrainingInputs& inputs, const std::vector<HookPoint>& hooks, const TrainingSpec& spec) {
  if (inputs.activations != nullptr) return FileSource::Create(inputs, hooks, spec);
  return ModelSource::Create(inputs, hooks, spec, ContextOrder::Kind::kShuffled);
}

}  // namespace featurescope
