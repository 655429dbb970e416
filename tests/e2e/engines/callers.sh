# Sourced by setup.sh: calling clients that want other versions than the project's environment holds. 450 MB.

readonly CALLERS_VERSION=1   # one more whenever the list below changes

fill_callers() {
    install "$1" litellm==1.106.2 langchain-openai==1.6.7 openai==2.54.0
}
