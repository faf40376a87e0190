//! The patterns, as data. All are matched against lower-case text without URLs.
//!
//! English first, then the languages that providers answer in: Chinese (Zhipu, DashScope, Moonshot,
//! gateways), Japanese, Korean, Russian, French, German, Spanish, Portuguese.

/// Credit, billing, spend, or an allowance that no short wait brings back.
pub(super) const QUOTA: &[&str] = &[
    r"insufficient[ _-](\w+ )?(quota|balance|credits?|funds?)",
    r"(balance|credits?|quota|funds?) (is|are|was) (too low|insufficient|not enough|not sufficient|negative|zero|empty)",
    r"credit balance",
    r"(out of|no|more|not enough|purchase|buy|add|used all|depleted|exhausted|all|any|remaining|zero|0)( \w+){0,3} credits?\b",
    r"credits? (\w+ ){0,3}(exhausted|depleted|used up|run out|ran out|expired|limit|remaining)",
    r"can only afford",
    r"\bbilling\b",
    r"payment (is )?(required|method|overdue|failed|due)|make a payment|unpaid|past due|overdue|arrear",
    r"spend(ing)?[ _-](limit|cap|budget)|hard limit|budget (\w+ ){0,3}exceeded|exceeded( \w+){0,3} budget|max budget",
    r"(exceeded|exceeds|reached|exhausted|used up)( \w+){0,4} (quota|allowance)",
    r"quota( \w+){0,4} (exceeded|exhausted|used up|reached|depleted|insufficient|finished)",
    r"out of( \w+){0,3} quota|quota will be (replenished|reset)|no (remaining )?quota",
    r"usage[ _-]limits?\b|usage cap|plan limit|limit of your( \w+){0,2} plan|(out of|extra|purchase|buy) (extra |more )?usage",
    r"(daily|weekly|monthly|yearly|annual)( [\w/]+){0,3} (limit|cap|allowance)\b|used up your|over( the| its| their| your)? budget|exceeded ?budget",
    r"free (tier|trial|quota|allocation|usage|plan)( \w+){0,6} (exhausted|exceeded|used|expired|ended|over|reached|only|limit)",
    r"trial (\w+ ){0,3}(expired|ended|over)|subscription (\w+ ){0,4}(expired|inactive|lapsed|required|not active)",
    r"top[ -]?up|recharge|^limit exceeded\.?$",
    r"余额|欠费|充值|额度|配额|套餐|账户.{0,6}不足|资源包",
    r"残高|クォータ.{0,12}(超|使い)|利用(上限|枠)|クレジット.{0,6}(不足|残)|支払",
    r"잔액|크레딧.{0,8}(부족|소진)|할당량.{0,12}(초과|소진)|결제",
    r"недостаточно (средств|баланс|кредит)|баланс|квот[аыу].{0,24}(исчерпан|превыш|закончил)|оплат",
    r"(solde|crédits?|quota).{0,16}(insuffisant|épuisé|dépassé)|facturation",
    r"guthaben|kontingent.{0,24}(erschöpft|überschritten|aufgebraucht)|kreditlimit",
    r"(saldo|créditos?|crédito) insuficient|(cuota|cota).{0,24}(excedid|superad|agotad|esgotad)|facturación|faturamento",
];

/// A quota that is known to be counted by the minute although it does not say so.
pub(super) const METERED: &[&str] =
    &[r"quota exceeded for (quota metric|metric|aiplatform)", r"(call|token) rate limit of your"];

/// An allowance of nothing at all.
pub(super) const NO_ALLOWANCE: &[&str] = &[r"\blimit(:| is| of| set to|=) ?0(\.0+)?($|[,;.\s])"];

/// One request above the allowance of a minute.
pub(super) const PER_REQUEST: &[&str] = &[
    r"request (is )?too (large|big)",
    r"(input or output|input|output) tokens must be reduced",
    r"reduce your (message|prompt|request|input) size",
    r"single request( \w+){0,4} (exceeds|larger than|greater than|more than)( \w+){0,4} rate",
    r"request( \w+){0,4} (exceeds|larger than|greater than|more than)( \w+){0,4} (per[- ]minute|tpm|limit per|minute)",
];

/// The provider cannot serve anyone, or not now.
pub(super) const CAPACITY: &[&str] = &[
    r"overload",
    r"(at|over|out of|exceeded|exceeds|exceeding|insufficient|no|lack of|limited|max(imum)?|full|reached) ((its|our|the|available|current|maximum|compute|gpu|spare|free) ){0,3}capacity",
    r"capacity (\w+ ){0,4}(exceeded|exhausted|unavailable|limit|constraint|error|reached|issue|shortage|insufficient)",
    r"capacity available|(experiencing|due to|under)( \w+){0,4} (high|heavy|increased|unusual|peak) (demand|traffic|load|volume)|high demand|heavy (load|traffic)",
    r"(server|service|model|engine|system|backend|cluster|endpoint|gpu)s?( is| are)?( currently| temporarily| too)* busy|too busy|busy, please",
    r"(currently |still |is |being )(loading|being loaded|warming|starting|initiali[sz]ing|scaling)( up)?\b|loading model|cold ?start|model (is )?not ready|not ready yet",
    r"(maximum )?pending requests exceeded|queue (is )?(full|limit|size|exceeded|overflow)|queue_full|too many queued",
    r"no (available |free |idle |healthy )?(workers?|instances?|replicas?|nodes?|gpus?|channels?|slots?|backends?|accounts?)( \w+){0,3} (available|free|ready)|no (available|free|idle) (workers?|instances?|replicas?|servers?|gpus?|slots?)",
    r"(temporarily|currently) (unavailable|out of (capacity|resources))|(not enough|insufficient) (gpu|compute|resources)|scarce",
    r"繁忙|访问量过大|负载|过载|拥挤|资源不足|服务器忙|系统忙|模型.{0,6}(过忙|加载中)|容量",
    r"混雑|過負荷|容量",
    r"과부하|혼잡|용량",
    r"перегруж|высок(ой|ая) нагрузк",
    r"surcharg|überlastet|ausgelastet|sobrecarg",
];

/// A pace limit, where the status does not say so already.
pub(super) const PACE: &[&str] = &[
    r"rate[ _-]?limit",
    r"too many (\w+ )?(requests|calls|queries)|too many tokens, please wait|too many concurrent|toomanyrequests",
    r"throttl|slow down|(reached|exceeded|over)( \w+){0,4} number of (requests|calls|queries)",
    r"(requests?|tokens?|calls?|queries|messages) (per|/|a|an|each) ?(second|sec|minute|min|hour|hr|day|week|month)|per[- ]minute|\b(rpm|tpm|rpd|tpd|qps|rps)\b",
    r"(concurren(t|cy)|parallel)( \w+){0,4} (limit|exceed|reach|maximum)|(limit|exceed|reach|maximum)\w*( \w+){0,4} concurren",
    r"速率|频率|限流|限速|流控|(请求|调用|并发).{0,8}(过多|过快|过高|频繁|超[出过限额量]|限制|上限)",
    r"レート制限|リクエスト.{0,8}多すぎ|요청.{0,8}(너무 많|초과)|속도 제한|호출 제한",
    r"слишком много запрос|лимит запрос|превышен.{0,12}лимит|trop de requêtes|limite de (débit|requêtes)",
    r"zu viele anfragen|ratenlimit|demasiadas (solicitudes|peticiones)|muitas (requisições|solicitações)|límite de (velocidad|tasa)",
];

/// The model's window. Each needs a subject and a way of being too much.
pub(super) const WINDOW: &[&str] = &[
    r"context[ _-]?(length|window|size|limit|budget)s?.{0,120}(exceed|too (long|large|big|many)|longer|larger|greater|more than|less than|smaller|reduce|overflow|fit|beyond|surpass|however|shorten|but|resulted|over\b|maximum|full|requested)",
    r"(exceed|too (long|large|big|many)|longer|larger|greater|more than|less than|beyond|surpass|over|maximum|does not fit|doesn't fit|not fit|overflow|bigger|outside|ran out of)\w*.{0,80}context",
    r"max(imum)?[ _](context|prompt|input|sequence|model|total)[ _](len(gth)?|tokens?|size)s?.{0,80}(\d|exceed|but|longer|however)",
    r"max_(model_len|seq_len|sequence_length|position_embeddings|input_length|input_tokens|total_tokens|num_tokens)",
    r"(prompt|input|text|messages?|conversation|query|transcript|history|instructions?)( length| text| size| tokens?| token count)?( is| are| was| were|:)? ?too (long|large)\b",
    r"(prompt|input|inputs?|message|conversation|sequence|total|requested|request)('s)?`?[ _-]?(length|size|token count|tokens?|number of tokens).{0,80}(exceed|greater than|more than|longer than|larger than|over the|must (be|not)|<=|less than|cannot|above|should be|beyond|limit(ed)? (of|to)|supports? (only )?up to)",
    r"tokens in (the |your )?(request|prompt|input|messages?).{0,20}(more than|exceed|over|above|greater|larger)",
    r"(exceed|surpass|above|over)\w*( \w+){0,5} (number of )?(input |prompt |total )?(tokens? (limit|allowed|count)|limit of [\d,]+ tokens|maximum tokens)",
    r"exceed\w*( [\w']+){0,3} (max(imum)?|allowed|permitted)( \w+){0,4} tokens?\b",
    r"(token|length) (count|limit).{0,40}exceed|exceed\w*( \w+){0,4} (token|length|input|prompt)[ _-](limit|count|length)",
    r"(prompt|input|text|sequence|request).{0,60}(longer|larger|bigger) than (the )?(max|model|context|allowed|limit)",
    r"must (have|be|contain) (less|fewer|at most|no more|shorter)( \w+)* [\d,]+ tokens",
    r"range of input length should be|input length.{0,20}out of range",
    r"too many (input |prompt |total |context )?tokens",
    r"reduce (the |your )?(length|size|number of tokens) (of|in) (the |your )?(message|prompt|input|conversation|request)",
    r"(\d+ |many )tokens.{0,40}(>|exceeds?) ?.{0,12}(\d+ )?(max|limit|context)",
    r"kv[ -_]?cache.{0,60}(full|exceed|not enough|insufficient|too)|(prompt|input) (is )?too (large|long) to (process|fit)|input \(\d+ tokens\) is too large",
    r"上下文|(输入|提示词?|文本|内容|prompt|消息|请求|token).{0,14}(过长|超长|超出|超过|太长)|超(过|出|了).{0,14}(最大|长度|token)",
    r"コンテキスト(長|ウィンドウ|サイズ|の)|(入力|プロンプト|トークン).{0,10}(長すぎ|超え|超過|上限)",
    r"컨텍스트|(입력|프롬프트|토큰).{0,16}(초과|너무 (길|많))",
    r"длин[аыу] контекста|контекстн\w+ окн|слишком (длинн|больш)\w+ (запрос|промпт|контекст|ввод|текст)|(токен|длин).{0,40}превыша|превыша.{0,40}(токен|длин|контекст)",
    r"(longueur|taille|fenêtre)( maximale)? d[eu] contexte|(invite|prompt|entrée|requête).{0,20}trop long",
    r"kontext(länge|fenster|größe)|(prompt|eingabe|anfrage).{0,20}zu lang",
    r"(longitud|ventana|tamaño|comprimento|janela|tamanho)( máxim[oa])? (de|del|do|da) contexto|(prompt|entrada|mensaje|mensagem).{0,20}(demasiado larg|muito long)",
];

/// Texts that speak of lengths and tokens and do not mean the window.
pub(super) const NOT_WINDOW: &[&str] = &[
    r"rate[ _-]?limit|per[- _]?minute|per min\b|\btpm\b|per[- _]?day|please wait",
    r"maximum allowed number of output tokens",
    r"string (is )?too (long|short)|string with maximum length|array too long|name.{0,20}too long|too long for field",
    r"long context beta",
];

/// A cap of the answer alone, unless the window is named as well.
pub(super) const OUTPUT_CAP: &[&str] = &[
    r"max(imum)?( allowed)?( number of)? (output|completion)|output (token )?limit|(supports?|allows?) (at most|up to|a maximum of) [\d,]+ (completion|output)",
    r"^\W*((the|parameter|value|of|invalid|for) )*\W?max_?(completion_|new_|output_|output)?tokens",
];

/// A filter of the prompt or the output.
pub(super) const FILTER: &[&str] = &[
    r"content[ _-](management|filter|policy|moderation|safety|exists risk|blocked|violation|restriction)",
    r"content (was|is|has been|were|got) (\w+ )?(filtered|blocked|flagged|rejected|removed)|(filtered|blocked|rejected|flagged) (by|due to|because of|for|as|as a result of)( \w+){0,3} (content|safety|guardrail|filter|polic|moderation|sensitiv|prohibited|responsible|security)",
    r"safety (system|filter|polic|settings|reason|guideline|check|concern|classifier)|unsafe (content|input|prompt)|not safe|nsfw",
    r"flagged|moderation|responsible ai|guardrails?\b.{0,40}(block|interven|violat|trigger|fail)|(block|interven|violat|trigger).{0,40}guardrail",
    r"violat\w+.{0,60}(polic|guideline|terms|usage|safety|rule|standards)|(usage|acceptable use|content) polic",
    r"inappropriate|offensive|harmful|sensitive (content|word|information|topic|data)|prohibited[ _]content|prohibited use|illegal content",
    r"output blocked|response (was )?blocked|prompt (was )?blocked|blocked (prompt|content|by safety|reason)|recitation|copyright",
    r"敏感|不安全|违规|违法|违禁|内容审核|安全审核|不当|审核不通过|风险内容|内容风险",
    r"不適切|コンテンツ(ポリシー|フィルタ)|有害|안전 정책|유해|부적절|콘텐츠 (정책|필터)",
    r"модерац|неприемлем|запрещ[её]нн|этическ|цензур",
    r"(contenu|inhalt|contenido|conteúdo).{0,30}(inapproprié|filtr|unangemessen|inapropiad|inadequad|bloque|blockiert)|politique d'utilisation|nutzungsrichtlinie|política de (contenido|conteúdo|uso)",
];

/// The account is closed: nothing about this request.
pub(super) const ACCOUNT: &[&str] = &[
    r"(account|organi[sz]ation|project|user|key|team|workspace)( \w+){0,4} (suspended|disabled|deactivated|banned|terminated|blocked|frozen|archived)",
    r"账(号|户).{0,8}(封禁|禁用|冻结|停用)|аккаунт.{0,20}заблокирован",
];

/// The credential is missing, wrong or expired.
pub(super) const AUTH: &[&str] = &[
    r"(api|access|secret|subscription|x-api|auth)[ _-]?(key|token)s?\b.{0,40}(invalid|not valid|incorrect|missing|expired|wrong|is required|not found|revoked|malformed|not provided|mismatch|could not be)",
    r"(invalid|incorrect|missing|no|wrong|expired|unknown|bad|unrecogni[sz]ed|valid|revoked)( \w+){0,2} (x-)?(api|access|subscription|secret|auth\w*|bearer)[ _-]?(key|token|credential|header)",
    r"unregistered callers|security token.{0,60}(invalid|expired)|request signature|signature (does not match|expired|mismatch|verification)",
    r"authentication (fail|error|required|token|credential|is required|header|information)|unauthenticated|not authenticated|failed to authenticate|could not validate credentials|authenticate",
    r"missing authentication|no (auth|authorization|credential)|(credential|bearer|jwt|login)s?.{0,30}(invalid|expired|missing|required|not valid)|(invalid|expired|missing) (credential|bearer|jwt|authorization)",
    r"密钥|令牌|鉴权|身份验证|认证失败|未授权|无效的(api|key)|api ?key.{0,8}(无效|错误|过期|不存在|失效)",
    r"apiキー|認証|api 키|인증|ключ.{0,20}(недействит|невер|истек)|авторизац|аутентифик",
    r"clé (d')?api|authentification|api-schlüssel|authentifizierung|clave (de )?api|autenticación|chave (de |da )?api|autenticação",
];

/// The credential is known and may not do this.
pub(super) const PERMISSION: &[&str] = &[
    r"location is not supported|(country|region|territory|location)s?.{0,40}not (supported|available|allowed|permitted)|(not (supported|available|allowed)|unavailable) (in|from) (\w+ ){1,2}(countr|region|location|territor)",
    r"permission[ _-]?denied|do(es)? not have (\w+ ){0,3}(permission|access)|don't have (\w+ ){0,3}(permission|access)|doesn't have (\w+ ){0,3}(permission|access)|access (is )?denied|insufficient (permission|privilege|scope)",
    r"(not|isn't|aren't) (authorized|allowed|permitted|entitled|enabled for) (to (access|perform|use|call|invoke)|for (this|your))|forbidden|not been granted|no access to|access to (this|the) (model|endpoint)( \w+){0,3} (denied|restricted|not allowed)",
    r"(organization|project|account) must be verified|must be verified to|terms of service must be accepted|accept the terms|gated",
    r"无权|没有权限|权限不足|権限|アクセスが拒否|권한|нет доступа|доступ запрещ|accès refusé|zugriff verweigert|keine berechtigung|acceso denegado|acesso negado",
];

/// A rule of the account keeps the request from every server of the model.
pub(super) const ROUTING: &[&str] = &[
    r"data policy|data_collection|privacy (settings|policy)|guardrail restrictions|allowed providers|ignored providers|provider preferences|routing (rule|requirement|preference)|no allowed providers|zdr|zero data retention",
];

/// The model, deployment or path is not there.
pub(super) const MODEL: &[&str] = &[
    r"(model|deployment|engine|endpoint|inference profile).{0,100}(does not exist|doesn't exist|do not exist|not exist|not found|was not found|is not available|no longer (available|supported)|is unknown|unknown to|isn't available|not currently available|unavailable for|could not be found|cannot be found)",
    r"model.{0,80}(has been|is|was|been) (deprecated|retired|removed|decommissioned|shut ?down|sunset|discontinued|legacy)|reached (the )?end of (its )?life",
    r"(invalid|unknown|no such|unrecogni[sz]ed|unsupported|nonexistent|non-existent|incorrect|wrong) (model|deployment|engine)\b|model (name|id|identifier)? ?(is )?(invalid|unknown|incorrect|wrong|unrecogni[sz]ed)",
    r"no endpoints found|model identifier is invalid|not a valid model|valid model (id|name)|(could not|couldn't|cannot|unable to) (find|locate|resolve) (the )?(model|deployment)|model_not_found",
    r"on-demand throughput isn.?t supported|with on-demand throughput|not deployed|no (available )?(provider|channel|deployment|route)s?( \w+){0,6} (for|model)|no model (with|named|matching)",
    r"(the|requested) ['`\x22]?[\w./:-]+['`\x22]? model is not (supported|available)|model ['`\x22][^'`\x22]+['`\x22] is (not (supported|available|allowed|accessible|enabled)|unavailable|unsupported)",
    r"模型.{0,24}(不存在|未找到|不可用|已下线|无效|未开通|不支持该模型)|不存在的模型|无可用渠道|(不支持|未知)(的|该)?模型",
    r"モデル.{0,24}(存在しません|見つかりません|利用できません)|모델.{0,24}(없|찾을 수|존재하지)|модел\w+.{0,40}(не найден|не существует|недоступ)",
    r"modèle.{0,40}(introuvable|n'existe pas|inconnu)|modell.{0,40}(nicht gefunden|existiert nicht|unbekannt)|modelo.{0,40}(no existe|no encontrad|não existe|não encontrad|não foi encontrad)",
];

/// This model or backend lacks what was asked for.
pub(super) const UNSUPPORTED: &[&str] = &[
    r"unsupported|not[ _]supported|do(es)? not (currently )?support|doesn't (currently )?support|don't (currently )?support|isn't supported|aren't supported|not yet supported|no longer supported|cannot support|unsupport",
    r"(extra|additional) (inputs?|fields?|parameters?|propert(y|ies)) (are|is) not (permitted|allowed)|extra_forbidden|unexpected (keyword|field|parameter|argument|property)",
    r"(unrecogni[sz]ed|unknown|unexpected) (request )?(argument|parameter|field|key|name|option|property)",
    r"(is|are) not (available|permitted|allowed|enabled|implemented|compatible)( \w+){0,2} (with|by|for|in|on|when using) (this |the |your |that |current )?(model|endpoint|provider|backend|deployment|version|engine)|only works (in|with)|not compatible with (this|the) model",
    r"do(es)? not (have|accept|allow|handle|process|understand)( \w+){0,3} (image|vision|audio|video|tool|function|file|pdf|multimodal)|is not (a )?(multimodal|vision)|only (supports|accepts|support|accept|available)|(cannot|can't|unable to) (process|accept|read|handle) (image|audio|video|file)s?|text[- ]only",
    r"no endpoints found that support|requires? --enable|enable-auto-tool-choice|mmproj|not implemented|image input",
    r"不支持|不被支持|暂不支持|サポートされていません|対応していません|지원하지 않|지원되지 않|не поддержива",
    r"(n'est|ne sont|ne prend) pas (pris|prise|supporté|en charge)|nicht unterstützt|unterstützt .{0,40}nicht|no (es|está|son) (compatible|soportad|admitid)|não (é |são )?suport",
];

/// What a 404 says when the model is there and lacks something.
pub(super) const MODEL_LACKS: &[&str] = &[
    r"no (endpoints?|providers?)( \w+){0,3} (found )?(that|which) (support|can handle)|that support (tool|image|the provided|audio|video|function|all requested)",
    r"does not support (tools|image|audio|video|vision|function|chat)|tool use not supported",
];

/// What a 404 says when something else than the model is missing.
pub(super) const OTHER_RESOURCE: &[&str] = &[
    r"no such file|file( object| with id)?.{0,60}(not found|does not exist|not exist)|previous response|item with id|(thread|assistant|batch|vector store|message|conversation|cached ?content|response|container) .{0,60}not found|cachedcontent",
];

/// Bytes, pixels, pages or pieces, not tokens.
pub(super) const TOO_LARGE: &[&str] = &[
    r"(request|payload|body|file|image|attachment|pdf|document|content|audio|video|media|base64|upload|entity)s?\b.{0,60}(too (large|big|many)|exceed\w*.{0,60}(\d ?(bytes|kb|mb|mib|gb|pixels|pages)|bytes|size|megabytes|pixels|pages?\b|dimension))",
    r"too large (in|for) (bytes|size)|(exceed|over|above)\w* (the )?(maximum |max )?(allowed |permitted )?(number of bytes|file size|image size|payload size|body size|request size|size)",
    r"(maximum of|at most|no more than|limit of|only) \d+ (\w+ ){0,2}(image|file|attachment|page|document)",
    r"too many (images|files|attachments|pages|documents)|larger than (the )?(max(imum)?|allowed) (size|bytes)|\d ?(mb|mib|megabytes) (maximum|limit|max)",
    r"(图片|文件|请求体|附件).{0,12}(过大|太大|超过|超出)|(ファイル|画像).{0,12}(大きすぎ|超え)|(파일|이미지).{0,12}(너무 (큽|크)|초과)|(файл|изображен)\w*.{0,20}(слишком больш|превыша)",
];

/// Something between us and the model.
pub(super) const GATEWAY: &[&str] = &[
    r"upstream[ _](connect|request|error|server|prematurely|sent|returned|timed|unavailable|response|service|host|provider)|from upstream|no[ _]healthy[ _]upstream|upstream is",
    r"bad gateway|gateway error|disconnect/reset|reset before headers|reset reason|ring-balancer|invalid response was received|transport failure|connection (termination|refused|failure)",
    r"error code: ?(502|52\d|530|1000|1001|1016|1033|1034|1035)\b|origin (dns|is unreachable|web server|error)|name resolution (failed|error)|no route to host|econnrefused|econnreset|enotfound|getaddrinfo",
    r"backend (fetch|connection|write|read) (failed|error)|no server is available to handle|service unavailable - (dns|no)|dependency (required|failed)|failed dependency|guru meditation|http response code 50\d was returned by",
];

/// A limit of time, somewhere behind the provider's door.
pub(super) const TIMEOUT: &[&str] = &[
    r"time[d]?[ -]?out|deadline[ _]exceeded|took too long|超时|タイムアウト|시간 초과|таймаут|délai dépassé",
];

/// A provider's own fault, where the type that goes with it lies.
pub(super) const SERVER_FAULT: &[&str] = &[
    r"(the )?server had an error|internal (server )?error|internal_server_error|server error|unexpected error|something went wrong|try your request again|stack trace|enginecore|engine (is )?dead|cuda|out of memory|内部错误|服务(器)?(内部)?(错误|异常)|系统(错误|异常)|внутренняя ошибка",
];

/// What ran the model is gone, whatever the status says.
pub(super) const CRASH: &[&str] = &[
    r"(model|engine|server|runner|worker|backend|process) (has |have |was |is )?(unexpectedly )?(crashed|died|exited|stopped|terminated|unloaded)",
];

/// A period of a day and more, or a plan's window.
pub(super) const DAY: &str = r"per[ _-]?day|/ ?day\b|\bdaily\b|\b(tpd|rpd)\b|per[ _-]?24|24[ -]?h(ou)?rs?\b|per 86400|byday|per[ _-]?(week|month|year|billing)|/ ?(week|month|year)\b|weekly|monthly|today|tomorrow|\b(a|each|every|this|the|of your|current) (day|week|month)\b|[45][ -]hours? (window|limit|usage)|每(个)?(日|天|月|周)|当(日|月)|今日|今天|本月|1 ?日|一日|하루|일일|월간|в (день|сутки|неделю|месяц)|сутки|дневн|суточн|par (jour|mois|semaine)|journalier|pro (tag|monat|woche)|täglich|por (día|dia|mes|mês)|diari[oa]|diári[oa]";

/// A period under a day.
pub(super) const UNDER_A_DAY: &str = r"per[ _-]?(second|sec\b|minute|min\b|hour|hr\b)|/ ?(s|sec|second|min|minute|h|hr|hour)\b|\b(tpm|rpm|rps|qps|qpm|rph)\b|per (60|10|1|3600) ?s|hourly|byminute|bysecond|byhour|\b(a|each|every|one) (second|minute|hour)\b|perminute|persecond|每(分|秒|小时)|分钟|毎分|1分|분당|초당|в (минуту|секунду|час)\b|par (minute|seconde|heure)|pro (minute|sekunde|stunde)|por (minuto|segundo|hora)";

/// A limit, and further on what one request asks of it.
pub(super) const LIMIT_AND_ASKED: &str =
    r"limit:? ?([\d,]+)[^.]{0,40}(?:requested|request|needed):? ?([\d,]+)";
